"""Overrides for sweeps over runs of a second, and the results that a sweep leaves."""

from __future__ import annotations

from pathlib import Path

from assembling import without
from harness import TINY

# Long enough for the default chunk of mlp_fast, which a sweep over adapters cannot set.
SMALLEST = [*without(TINY, "task.seq_len", "base."), "task.seq_len=36", "base=none", "task.num_tasks=1"]
# With optimizer.lr=1e30 it fails.
SGD = [*SMALLEST, "task.steps_per_task=6", "optimizer=sgd", "optimizer.clip=null"]


def results_of(where: Path) -> dict[str, bytes]:
    """Return the results of all runs below `where`, by the names of their files."""
    return {str(p.relative_to(where)): p.read_bytes() for p in sorted(where.glob("outputs/*/*/*/results.json"))}
