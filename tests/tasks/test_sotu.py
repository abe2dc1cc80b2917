"""Addresses by year: classes in the order of time, from a package or from a folder."""

from __future__ import annotations

import io
import tarfile

import pytest

from ttt.tasks.sotu import Sotu

SENTENCES = "The state of the union in {year} is {word}, and here is why it matters to us.\n"


def addresses():
    """Texts of three decades in which no span repeats."""
    for year in (1791, 1799, 1801, 1855, 1856):
        yield f"{year}_somebody_x_1.txt", "".join(SENTENCES.format(year=year, word=f"{year * i}") for i in range(300))


def source(path, tmp_path, **changes):
    settings = {"name": "sotu", "eval_share": 0.2, "tokenizer": "bytes", "cache_dir": str(tmp_path / "cache")}
    return Sotu(**(settings | {"path": str(path), "years": 10} | changes))


@pytest.fixture
def package(tmp_path):
    file = tmp_path / "sotu.tgz"
    with tarfile.open(file, "w:gz") as package:
        for name, text in [*addresses(), ("../../evil_1790.txt", "no"), ("package.json", "{}")]:
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(text.encode())
            package.addfile(member, io.BytesIO(text.encode()))
    return file


def test_decades_in_the_order_of_time(package, tmp_path):
    sotu = source(package, tmp_path)
    assert [document.class_name for document in sotu.documents()] == [
        "1790s", "1790s", "1800s", "1850s", "1850s",
    ]  # fmt: skip
    names = {document.class_name for document in source(package, tmp_path, years=50).documents()}
    assert names == {"1750-1799", "1800-1849", "1850-1899"}


def test_a_folder_holds_the_same(package, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in addresses():
        (folder / name).write_text(text)
    assert source(folder, tmp_path).recipe() == source(package, tmp_path).recipe()
    (folder / "1799_somebody_x_1.txt").write_text("something else")
    assert source(folder, tmp_path).recipe() != source(package, tmp_path).recipe()


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("no package")])
def test_what_holds_no_addresses_is_refused(tmp_path, make):
    place = tmp_path / "place"
    make(place)
    with pytest.raises(ValueError, match="npm pack"):
        source(place, tmp_path).recipe()
