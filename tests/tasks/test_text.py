"""Your own text: a folder for each class."""

from __future__ import annotations

import re

import pytest
from sources import build_source
from texts import parts_of, prose


def build(cache, path):
    return build_source("source=text", path=path and str(path), cache_dir=str(cache))


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(["keats", "austen", "blake"]):
        (tmp_path / "letters" / name / "deep").mkdir(parents=True)
        (tmp_path / "letters" / name / "1.txt").write_text(prose(400, seed=number))
        (tmp_path / "letters" / name / "deep" / "2.md").write_text(prose(400, seed=number + 10))
    return tmp_path / "letters"


def test_a_folder_for_each_class(folder, tmp_path):
    source = build(tmp_path / "cache", folder)
    assert [source.class_name(c) for c in range(3)] == ["austen", "blake", "keats"]
    assert source.families() == [[0], [1], [2]]
    assert set(source.rows) == {"classes", "train tokens", "eval tokens"}
    train, (run,) = parts_of(source)[2]
    assert train.tobytes().decode() + run.tobytes().decode() == f"{prose(400, seed=0)}\n{prose(400, seed=10)}"


def test_what_is_left_out_is_counted_and_what_is_hidden_is_not_read(folder, tmp_path):
    plain = build(tmp_path / "cache", folder)
    (folder / "blake" / ".hidden").write_text(prose(400, seed=20))
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text(prose(400, seed=21))
    (folder / "README").write_text("beside the classes")
    assert build(tmp_path / "cache", folder).fingerprint == plain.fingerprint
    (folder / "blake" / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    (folder / "small").mkdir()
    (folder / "small" / "1.txt").write_text("too small")
    # Made, then read from the cache.
    for _ in range(2):
        source = build(tmp_path / "cache", folder)
        assert source.rows["classes"] == 3
        assert source.rows["classes left out"] == 1
        assert source.rows["documents left out"] == 1


def test_a_changed_file_is_another_corpus(folder, tmp_path):
    first = build(tmp_path / "cache", folder)
    (folder / "blake" / "1.txt").write_text(prose(400, seed=30))
    assert build(tmp_path / "cache", folder).fingerprint != first.fingerprint


# The folders and files of each layout that is refused, and what the refusal names besides the path.
REFUSED = {
    None: ([], [], "FOLDER/CLASS/FILE"),
    "missing": ([], [], "FOLDER/CLASS/FILE"),
    "file": ([], [""], "FOLDER/CLASS/FILE"),
    "empty": (["."], [], "empty"),
    "flat": (["."], ["1.txt"], "FOLDER/CLASS/FILE"),
    "hollow": (["a", ".b"], [".b/1.txt"], "FOLDER/CLASS/FILE"),
    "small": (["a"], ["a/1.txt"], "2000"),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_folders_that_do_not_fit_are_refused(layout, tmp_path):
    path = layout and tmp_path / layout
    folders, files, names = REFUSED[layout]
    for name in folders:
        (path / name).mkdir(parents=True, exist_ok=True)
    for name in files:
        (path / name).write_text("text")
    with pytest.raises(ValueError, match=f"^source.path={re.escape(str(path or 'null'))}: ") as error:
        build(tmp_path / "cache", path)
    assert names in str(error.value)
    assert "\n" not in str(error.value)
