"""A run that fails in the middle and is typed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import only_run, run_here

from ttt.run import loop


def interrupted_run(overrides: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch, *, rows: int) -> Path:
    """Let a run fail when R has this many rows, resume it, and return its run folder."""
    measure_row = loop.measure_row

    def failing(session: loop.Session) -> None:
        if len(session.results.rows) == rows:
            raise RuntimeError("the machine fails")
        measure_row(session)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "measure_row", failing)
        assert run_here(overrides, folder).code != 0
    resumed = run_here(overrides, folder)
    assert resumed.code == 0, resumed.err
    return only_run(folder)
