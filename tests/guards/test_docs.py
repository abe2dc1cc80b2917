"""The docs name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
# Words in capitals stand for a name of the reader's choice.
PATH = re.compile(r"`((?:ttt|tasks|cli|conf|kernels|tests|docs)/[a-z0-9_./-]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_the_docs_exist(page):
    names = PATH.findall((ROOT / page).read_text())
    assert [name for name in names if not (ROOT / name).exists()] == []
