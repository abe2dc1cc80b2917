"""Manual pages by language, as plain text."""

from __future__ import annotations

import gzip

import pytest
from sources import build_source
from texts import parts_of, prose

from ttt.tasks.manuals import plain

PAGE = r""".\" A comment
.TH LS 1 "2024"
.SH NAME
ls \- list "directory" contents
.SH BESCHREIBUNG
.B \-a\fR, \fB\-\-all\fP
Zeigt alle Eintr\[:a]ge \(aqund\(aq mehr\&.\" not this
'in 4
.IP "\(bu" 2
ein \s-1Punkt\s0 mit \*(lqZitat\*(rq \e n

.BR ls (1)
"""


def test_a_page_leaves_its_text():
    assert plain(PAGE).splitlines() == [
        "NAME",
        'ls - list "directory" contents',
        "BESCHREIBUNG",
        "-a, --all",
        "Zeigt alle Eintrge 'und' mehr.",
        " 2",
        "ein Punkt mit Zitat \\ n",
        "ls (1)",
    ]


@pytest.fixture
def pages(tmp_path):
    """A folder of manual pages in English, German and two kinds of Portuguese."""
    root = tmp_path / "man"
    for seed, (folder, name) in enumerate(
        [("man1", "a.1"), ("man7", "b.7"), ("de/man1", "a.1"), ("pt/man1", "a.1"), ("pt_BR/man1", "a.1")]
    ):
        (root / folder).mkdir(parents=True)
        (root / folder / f"{name}.gz").write_bytes(gzip.compress(prose(1000, seed=seed).encode()))
    (root / "man1" / "link.1.gz").symlink_to("a.1.gz")
    (root / "man1" / "broken.1.gz").write_bytes(b"no gzip")
    return root


def build(tmp_path, pages, **changes):
    changes = {"least_bytes": 2000, **changes}
    return build_source("source=manuals", path=str(pages), cache_dir=str(tmp_path / "cache"), **changes)


def test_a_class_is_a_language(tmp_path, pages):
    source = build(tmp_path, pages)
    assert [source.class_name(c) for c in range(4)] == ["en", "de", "pt", "pt_BR"]
    assert source.families() == [[0], [1], [2, 3]]
    assert source.rows["documents left out"] == 1
    train, runs = parts_of(source)[0]
    # Overviews come before commands.
    text = train.tobytes().decode() + "".join(run.tobytes().decode() for run in runs)
    assert text == f"{prose(1000, seed=1)}{prose(1000, seed=0)}".rstrip("\n")


def test_a_language_is_read_up_to_so_many_bytes(tmp_path, pages):
    whole, part = build(tmp_path, pages), build(tmp_path, pages, most_bytes=1000)
    sizes = [[len(train) for train, _ in parts_of(source)] for source in (whole, part)]
    # A page is read whole, so only English, which has two, is shorter.
    assert sizes[1][0] < sizes[0][0]
    assert sizes[1][1:] == sizes[0][1:]


def test_a_folder_without_pages_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^source\.path=.*nowhere: holds no manual pages"):
        build(tmp_path, tmp_path / "nowhere")
