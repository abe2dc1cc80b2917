"""Hydra's own settings: only what chooses and sets up a launcher or a sweeper may be typed.

Hydra builds callbacks and loggers, and makes folders, from its config before anything of ours runs.
A YAML file of a stranger could thus run code or write anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ttt.config.messages import UsageError

ALLOWED = ("hydra.launcher.NAME", "hydra.sweeper.NAME", "hydra.sweep.dir")
# What differs between two commands without being typed, and what is looked at below.
VARYING = ("launcher", "sweeper", "overrides", "runtime", "searchpath", "mode", "help", "hydra_help")
# The folder of a sweep's files, and names that Hydra makes from what was typed.
FREE = ("hydra.sweep.dir", "hydra.job.override_dirname", "hydra.job.id", "hydra.job.num")
# Where the classes of launchers and sweepers come from, and of what an optuna sampler is made.
CLASSES = ("hydra_plugins.hydra_", "hydra._internal.core_plugins.", "optuna.samplers.")


def check_hydra(config: DictConfig, *, plain: DictConfig) -> None:
    """Raise UsageError for a setting of Hydra's that differs from those of the `plain` command.

    Both are configs of Hydra itself.
    """
    for key in map(str, config):
        if key in VARYING:
            continue
        # With ++ a key may be new, and Hydra's own schema has no node for it.
        if key not in plain:
            raise UsageError(f"hydra.{key}: is not set in ttt; allowed: {', '.join(ALLOWED)}")
        # Nodes are compared and not values, because reading a value would resolve it.
        for path, value in _leaves(config._get_node(key), f"hydra.{key}"):
            if path not in FREE and value != dict(_leaves(plain._get_node(key), f"hydra.{key}")).get(path):
                raise UsageError(f"{path}: is not set in ttt; allowed: {', '.join(ALLOWED)}")
    for part in ("launcher", "sweeper"):
        for path, value in _leaves(config._get_node(part), f"hydra.{part}"):
            # A `_target_` is called: a class from anywhere would be somebody's code.
            if path.endswith("._target_") and not str(value).startswith(CLASSES):
                raise UsageError(f"{path}={value}: must be a launcher or sweeper of Hydra's")


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(dotted path, value as it is written) of everything in a section, empty sections too."""
    if OmegaConf.is_dict(node) and not node._is_none() and len(node):
        for key in node:
            yield from _leaves(node._get_node(key), f"{path}.{key}")
    elif OmegaConf.is_list(node) and not node._is_none():
        for index in range(len(node)):
            yield from _leaves(node._get_node(index), f"{path}.{index}")
    else:
        # Not resolved: two commands may have different folders behind the same ${...}.
        yield path, node._value() if hasattr(node, "_value") else node
