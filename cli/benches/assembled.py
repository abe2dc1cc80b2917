"""Runs put together from the shipped configs, without a folder: what the benchmarks time."""

from __future__ import annotations

from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ttt.run.assemble import Assembly, assemble


def assembly_of(*overrides: str) -> Assembly:
    """Build the run that `ttt-run OVERRIDES` would execute, or raise ValueError as that does."""
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=["logger=none", *overrides])
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    return assemble(resolved, trusted=[])
