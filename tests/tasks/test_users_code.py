"""The code of data of the user's own is part of the data's name."""

from __future__ import annotations

import importlib
import sys

import pytest

from ttt.tasks.machinery.users_code import code_of

MODULE = """
from dataclasses import dataclass
from typing import ClassVar
from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from {words} import WORDS

@dataclass(kw_only=True, eq=False)
class Verses(Corpus):
    min_bytes: ClassVar[int] = 100

    def documents(self):
        for k, word in enumerate(WORDS):
            yield Document(word, k, "\\n".join(f"{{word}} {{i}} jumps {{i * k}}" for i in range(200)))

    def recipe(self):
        return {{}}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module and one beside it, and import it anew; return its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(words):
        (tmp_path / "verse_words.py").write_text(f"WORDS = {words!r}\n")
        (tmp_path / "verses.py").write_text(MODULE.format(words="verse_words"))
        for name in ("verses", "verse_words"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("verses")

    yield write
    for name in ("verses", "verse_words"):
        sys.modules.pop(name, None)


def source(module, cache):
    return module.Verses(name="verses", eval_share=0.2, tokenizer="bytes", cache_dir=str(cache))


def test_changed_code_beside_a_source_is_read_anew(module, tmp_path):
    first = source(module(["frog", "pond"]), tmp_path / "cache")
    assert [first.class_name(index) for index in (0, 1)] == ["frog", "pond"]
    second = source(module(["moon", "snow!"]), tmp_path / "cache")
    assert [second.class_name(index) for index in (0, 1)] == ["moon", "snow!"]
    assert second.fingerprint != first.fingerprint


def test_the_hash_follows_what_a_module_imports(module, tmp_path):
    before = code_of(module(["frog"]).__name__)
    (tmp_path / "stranger.py").write_text("x = 1\n")
    assert code_of(module(["frog"]).__name__) == before
    assert code_of(module(["pond"]).__name__) != before
    assert code_of("ttt.tasks.recall") == ""
    assert code_of("not_imported") == ""


def test_packages_and_relative_imports_are_followed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "versepack" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "versepack" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("from ..words import WORDS\nfrom . import near\n")
    (package / "near.py").write_text("X = 1\n")
    (tmp_path / "versepack" / "words.py").write_text("WORDS = 1\n")
    importlib.import_module("versepack.inner.part")
    hashes = {code_of("versepack.inner.part")}
    for file in (package / "near.py", tmp_path / "versepack" / "words.py"):
        file.write_text("WORDS = X = 2\n")
        hashes.add(code_of("versepack.inner.part"))
    assert len(hashes) == 3
