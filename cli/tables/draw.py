"""The picture of a comparison, as a file, with its numbers beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ttt.cli.tables.formats import comma_separated
from ttt.cli.tables.written import Comparison
from ttt.figures.dress import dress
from ttt.figures.look import Look
from ttt.figures.style import save_figure


def plot(comparison: Comparison, file: Path, look: Look) -> None:
    """Draw a comparison into a file, and write FILE.csv beside it.

    Raises ValueError if it has no picture, and for an unknown suffix.
    """
    view = comparison.view
    if view.draw is None:
        raise ValueError(f"--plot {file}: goes with --frontier, --per-task or --curve")
    axes = view.draw(comparison.names.as_readable())
    dress(axes, look)
    save_figure(axes, file)
    records = [_measured(record) for record in view.points or view.sheet.records()]
    file.with_suffix(".csv").write_text(comma_separated(records) + "\n", encoding="utf-8")


def _measured(record: Mapping[str, object]) -> dict[str, object]:
    """A record whose cells are empty where a number was not measured or has no bound."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
