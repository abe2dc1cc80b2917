"""The files of a run folder as another program reads them: config.yaml, status.json, results.json.

Loads no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ttt.config.identity import LATER_EVAL, LATER_SOURCE, LATER_TRAINER, NOT_IDENTITY, NOT_IDENTITY_TRAINER
from ttt.config.kinds import mismatch
from ttt.config.loader import yaml_loader
from ttt.results.definitions import COSTS
from ttt.results.results import Results
from ttt.storage.content import Config
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import read_results_file, read_status

# Settings that came later, by the section that has them.
LATER: dict[str, Mapping[str, Any]] = {"trainer.": LATER_TRAINER, "eval.": LATER_EVAL, "source.": LATER_SOURCE}
# More values than any config of a run has. A few lines of YAML aliases can stand for billions.
MOST_VALUES = 100_000
# Where files lie and how many devices compute changes no number: it must not set methods apart.
LEFT_OUT = frozenset({*NOT_IDENTITY, "seed", *(f"trainer.{key}" for key in NOT_IDENTITY_TRAINER)})
# The lines of a config at which a section begins.
SECTION = re.compile(rb"^(?=\w+:(?:\s|$))", re.MULTILINE)


def read_results(folder: Path) -> Results:
    """results.json of a run.

    Raises ValueError naming a file that is cut short or of another version.
    """
    return read_results_file(RunFolder(folder).results)


def read_config(folder: Path) -> dict[str, Any]:
    """config.yaml of a run, resolved.

    Raises ValueError naming a file that cannot be read or holds no config.
    """
    # A copy: runs of one sweep share their sections, and whoever reads a config may change it.
    whole: dict[str, Any] = _copy(shared_config(folder))
    return whole


def shared_config(folder: Path) -> Mapping[str, Any]:
    """The same, to look at only: many runs have parts of it in common."""
    file = RunFolder(folder).config
    try:
        config, size = _content(file.read_bytes())
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    fault = "holds no config" if size >= MOST_VALUES else mismatch(config, Config)
    if fault:
        raise ValueError(f"{file}: {fault}")
    shared: Mapping[str, Any] = config
    return shared


def _content(data: bytes) -> tuple[Any, int]:
    """What a config.yaml holds, and how many values; section by section, since nearly all of a
    sweep's are alike."""
    try:
        parts = [_section(text) for text in SECTION.split(data) if text]
    except yaml.YAMLError:
        parts = []
    # Where lines that look like keys are none, the file is read as a whole.
    if not all(isinstance(section, dict) and len(section) == 1 for section, _ in parts) or not parts:
        return _section(data)
    sections = (section for section, _ in parts)
    return {key: value for section in sections for key, value in section.items()}, sum(size for _, size in parts)


@lru_cache(maxsize=4096)
def _section(text: bytes) -> tuple[Any, int]:
    content = yaml.load(text, Loader=yaml_loader())
    return content, _size(content, at_most=MOST_VALUES)


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _size(node: Any, *, at_most: int) -> int:
    """The number of values, each counted wherever an alias repeats it; it stops at `at_most`."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    size = 1
    for value in values:
        if size >= at_most:
            break
        size += _size(value, at_most=at_most - size)
    return size


def read_costs(folder: Path) -> dict[str, float]:
    """What a run took, by cost/run/KEY: keys of status.json in ttt.results.definitions.COSTS."""
    file = RunFolder(folder).status_file
    # Results can be copied without their status; then the costs are not known.
    status = read_status(file) if file.is_file() else {}
    return {f"cost/run/{key}": float(status[key]) for key in COSTS if key in status}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`, without the seed and what does not determine numbers."""
    flat: dict[str, Any] = {}
    _flatten(config, prefix, flat)
    return flat


def _flatten(config: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    later = LATER.get(prefix, {})
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in LEFT_OUT or key in ("_target_", "cache_dir"):
            continue
        if isinstance(value, Mapping):
            _flatten(value, f"{name}.", flat)
        # Runs from before there was the setting had this value.
        elif not (key in later and later[key] == value):
            flat[name] = value
