"""Assemble runs from overrides, as the command does, without its process and its folder."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from ttt.run.assemble import Assembly, assemble
from ttt.run.compose import compose_run


def config_of(*overrides: str) -> dict[str, Any]:
    """Return the resolved config of these overrides; a test may change what it gets."""
    return copy.deepcopy(_composed(overrides))


def assembled(*overrides: str) -> Assembly:
    """Return a new assembly: models and strategies change as they learn, so none is shared."""
    return assemble(config_of(*overrides), trusted=[])


@functools.cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    # A command that ran in this process before may have left Hydra open.
    GlobalHydra.instance().clear()
    return compose_run(overrides)


def last_of(*overrides: str) -> list[str]:
    """Return the overrides with each name once, where what comes later counts."""
    return list({word.partition("=")[0]: word for word in overrides}.values())


def without(overrides: tuple[str, ...], *prefixes: str) -> list[str]:
    """Return the overrides that begin with none of `prefixes`."""
    return [word for word in overrides if not word.startswith(prefixes)]


def refusal_of(*overrides: str) -> str:
    """Return the one line in which these overrides are refused."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        assembled(*overrides)
    message = str(refused.value)
    assert "\n" not in message
    return message
