"""A comparison as long data: one row for each run and metric, for statistics of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ttt.compare.groups import Group


def run_records(groups: Sequence[Group], metrics: Sequence[str]) -> list[dict[str, object]]:
    """Return a flat row for each run and metric; None where nothing was measured."""
    return [
        {
            # A label is empty where the method does not have the key.
            **{key: None if value == "" else value for key, value in group.label.items()},
            "seed": run.seed,
            **({"base": run.base} if group.by == "bootstrap" else {}),
            "metric": metric,
            "minus_null": run.null is not None,
            "value": value if math.isfinite(value := run.metric(metric)) else None,
            "folder": str(run.folder),
        }
        for group in groups
        for run in group.runs
        for metric in metrics
    ]
