"""A learner for a probe, from overrides as `ttt-run` takes them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ttt.cli.runs.check import check_command
from ttt.cli.runs.parser import parse_command
from ttt.devices.one_device import OneDevice
from ttt.results.events import Notice, Trained
from ttt.run.assemble import Assembly, assemble
from ttt.run.compose import resolve


class Composed(NamedTuple):
    """A run that is put together but not run; `weights` says in words which weights it has."""

    config: dict[str, Any]
    assembly: Assembly
    weights: str


def composed(words: Sequence[str], *, config_dir: Path | None) -> Composed:
    """Put together what `ttt-run WORDS` would run, with a base unless that must be trained.

    Raises ValueError in the user's words.
    """
    options = ["--config-dir", str(config_dir)] if config_dir else []
    config = resolve(check_command(parse_command([*words, *options])))
    trusted = [config_dir] if config_dir else []
    sys.path.extend(str(path) for path in trusted if str(path) not in sys.path)
    # A probe reads in one process, whatever the trainer of the words says.
    here = {"accelerator": "auto", "strategy": "single", "devices": 1, "nodes": 1, "checkpoint": "whole"}
    assembly = assemble(config | {"trainer": config["trainer"] | here}, trusted=trusted)
    device, base = assembly.settings.device(), assembly.base
    weights = None if base.needs_data else assembly.base_weights(OneDevice(device, precision="32-true"), _ignore)
    if weights is not None:
        assembly.load(weights)
    assembly.learner.to(device).eval()
    return Composed(config, assembly, f"base={base.name}" + (", not trained" if base.needs_data else ""))


def _ignore(event: Trained | Notice) -> None:
    """Nobody waits for this base."""
