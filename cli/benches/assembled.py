"""Runs put together from the shipped configs, without a folder: what the benchmarks time."""

from __future__ import annotations

from ttt.run.assemble import Assembly, assemble
from ttt.run.compose import compose_run


def assembly_of(*overrides: str) -> Assembly:
    """Build the run that `ttt-run OVERRIDES` would execute, or raise ValueError as that does."""
    return assemble(compose_run(["logger=none", *overrides]), trusted=[])
