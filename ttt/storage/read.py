"""The files of a run folder as another program reads them: config.yaml, status.json, results.json.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from ttt.config.identity import LATER_EVAL, LATER_SOURCE, LATER_TRAINER, NOT_IDENTITY, NOT_IDENTITY_TRAINER
from ttt.config.kinds import mismatch
from ttt.results.definitions import COSTS
from ttt.results.results import Results
from ttt.storage.content import Config
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import read_results_file, read_status

# Settings that came later, by the section that has them.
LATER: dict[str, Mapping[str, Any]] = {"trainer.": LATER_TRAINER, "eval.": LATER_EVAL, "source.": LATER_SOURCE}
# More values than any config of a run has. A few lines of YAML aliases can stand for billions.
MOST_VALUES = 100_000


def read_results(folder: Path) -> Results:
    """results.json of a run.

    Raises ValueError naming a file that is cut short or of another version.
    """
    return read_results_file(RunFolder(folder).results)


def read_config(folder: Path) -> dict[str, Any]:
    """config.yaml of a run, resolved.

    Raises ValueError naming a file that cannot be read or holds no config.
    """
    file = RunFolder(folder).config
    try:
        config = yaml.load(file.read_bytes(), Loader=_loader())
        size = _size(config, at_most=MOST_VALUES)
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    fault = "holds no config" if size >= MOST_VALUES else mismatch(config, Config)
    if fault:
        raise ValueError(f"{file}: {fault}")
    whole: dict[str, Any] = config
    return whole


def _size(node: Any, *, at_most: int) -> int:
    """The number of values, each counted wherever an alias repeats it; it stops at `at_most`."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    size = 1
    for value in values:
        if size >= at_most:
            break
        size += _size(value, at_most=at_most - size)
    return size


@cache
def _loader() -> Any:
    """A loader that reads numbers as OmegaConf does (1e-4 is one), but in C: ten times as fast."""

    class Loader(yaml.CSafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers

    return Loader


def read_costs(folder: Path) -> dict[str, float]:
    """What a run took, by cost/run/KEY: keys of status.json in ttt.results.definitions.COSTS."""
    file = RunFolder(folder).status_file
    # Results can be copied without their status; then the costs are not known.
    status = read_status(file) if file.is_file() else {}
    return {f"cost/run/{key}": float(status[key]) for key in COSTS if key in status}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`, without the seed and what does not determine numbers."""
    # Where files lie and how many devices compute changes no number: it must not set methods apart.
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in (*NOT_IDENTITY, "seed") or name in {f"trainer.{k}" for k in NOT_IDENTITY_TRAINER}:
            continue
        if key in ("_target_", "cache_dir"):
            continue
        # Runs from before there was the setting had this value.
        if (key, value) in LATER.get(prefix, {}).items():
            continue
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
