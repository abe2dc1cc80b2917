"""A config as trackers show it: one value beside each name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return a nested config as `group.key` -> value, with lists and null as text."""
    values: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[prefix + str(key)] = value if isinstance(value, str | int | float) else str(value)
    return values
