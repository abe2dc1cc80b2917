"""Hydra's sweep grammar: which runs `a=1,2 b=x,y` stands for."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


def split(overrides: Sequence[str]) -> list[list[str]]:
    """One list of overrides for each combination, by Hydra's own reading."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [list(run) for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None) for run in batch]


def varied(overrides: Sequence[str]) -> set[str]:
    """The keys that have several values."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {override.get_key_element().lstrip("+") for override in parsed if override.is_sweep_override()}
