"""The docs name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# measurements.md is a record: it names files as they were called at the time.
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
PAGES.remove("docs/measurements.md")
# Words in capitals stand for a name of the reader's choice.
PATH = re.compile(r"`((?:ttt|tasks|cli|conf|kernels|tests|docs)/[a-z0-9_./-]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_the_docs_exist(page):
    names = PATH.findall((ROOT / page).read_text())
    assert [name for name in names if not (ROOT / name).exists()] == []
