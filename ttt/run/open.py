"""A finished or stopped run as objects: the learner with its newest weights and fast state, and its
stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ttt.adapters.base import ordered
from ttt.config.kinds import mismatch
from ttt.learner import Learner
from ttt.run.assemble import Assembly, assemble
from ttt.run.published import as_published, load_changed
from ttt.storage import checkpoint
from ttt.storage.absent import check_is_run
from ttt.storage.checkpoint import Checkpoint
from ttt.storage.content import Config
from ttt.storage.run_folder import RunFolder
from ttt.stream import Source, Stream

# What a run is put together from.
GROUPS = ("adapter", "base", "model", "optimizer", "source", "strategy", "task", "trainer")


@dataclass(frozen=True)
class OpenedRun:
    """`learned`: how many tasks were learned before the checkpoint was made."""

    folder: RunFolder
    config: dict[str, Any]
    adapter: str
    learner: Learner
    source: Source
    stream: Stream
    learned: int


def open_run(path: Path, *, trusted: Sequence[Path], window: int | None = None) -> OpenedRun:
    """Rebuild the run in folder `path` from its config and newest checkpoint.

    `window`: tokens that attention sees, in place of the config's `model.window`. Raises
    ValueError, quoting `path`, for what is not a run, has no usable checkpoint, or no longer fits.
    """
    config = config_to_open(path)
    if window is not None:
        config["model"] = config["model"] | {"window": window}
    folder = RunFolder(path)
    saved, complaints = checkpoint.load_newest(folder.checkpoints)
    if saved is None:
        raise ValueError(f"{path}: holds no usable checkpoint: {next(iter(complaints), 'no checkpoints/task-*')}")
    try:
        assembly = assemble(config, trusted=trusted)
        restore_weights(assembly, saved)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return OpenedRun(
        folder=folder,
        config=config,
        adapter=config["adapter"]["name"],
        learner=assembly.learner,
        source=assembly.source,
        stream=assembly.stream,
        learned=len(saved.state["rows"]) - 1,
    )


def config_to_open(path: Path) -> dict[str, Any]:
    """The config of the run, with no base and no sink: these only matter to a run that trains."""
    file = RunFolder(path).config
    check_is_run(path)
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(file))
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not the config of a run: {str(error).splitlines()[0]}") from error
    fault = mismatch(config, Config)
    if fault:
        raise ValueError(f"{file}: {fault}")
    for group in GROUPS:
        if not isinstance(config.get(group), dict) or "_target_" not in config[group]:
            raise ValueError(f"{file}: not the config of a run: it names no {group}")
    config |= {group: with_defaults(group, config[group]) for group in GROUPS}
    # Weights come from the run's checkpoint; the files that the base was read from may be gone.
    base = {"_target_": "ttt.bases.none.NoBase", "name": "none", "seed": config["base"].get("seed", 0)}
    # The run may come from machines with other devices: one device here is enough to look at it.
    here = {"accelerator": "auto", "strategy": "single", "devices": 1, "nodes": 1, "checkpoint": "whole"}
    trainer = config["trainer"] | here
    return config | {"base": base, "logger": {"_target_": "ttt.sinks.none.NoSink", "name": "none"}, "trainer": trainer}


def with_defaults(group: str, section: dict[str, Any]) -> dict[str, Any]:
    """The section with the defaults of settings that it lacks: they came after the run was made."""
    file = files("ttt.conf") / group / f"{section.get('name')}.yaml"
    if not file.is_file():
        return section
    shipped: Any = OmegaConf.to_container(OmegaConf.create(file.read_text()))
    # A file that also changes other groups has the section under its name.
    shipped = shipped.get(group, shipped)
    # Values that refer to other sections have stood there from the beginning.
    plain = {key: value for key, value in shipped.items() if key != "defaults" and "${" not in str(value)}
    return plain | section


def restore_weights(assembly: Assembly, saved: Checkpoint) -> None:
    """Put slow weights and fast state into the learner, on the device of the run's settings."""
    learner, slow = assembly.learner, saved.tensors["slow"]
    odd = sorted((set(dict(learner.model.named_parameters())) ^ set(slow)) - as_published(learner.model))
    if odd:
        raise ValueError(f"its checkpoint was made by other code: {odd[0]} is only in one of them")
    # Not `assembly.load`: a checkpoint also holds the parameters that a strategy has attached.
    load_changed(learner.model, slow)
    learner.to(assembly.settings.device())
    initial = learner.adapter.initial()
    state = ordered(saved.tensors.get("fast", {}), like=initial)
    fast = {name: x.to(assembly.settings.device()) for name, x in state.items()}
    unlike = sorted(fast.keys() ^ initial.keys())
    if unlike:
        raise ValueError(f"its checkpoint was made by other code: {unlike[0]} is only in one of them")
    learner.fast = fast
