"""Before anything is imported or made: does what the user typed name things that exist?

Hydra answers a typo with a list or a traceback; this answers with the nearest match.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from ttt.cli.sweep import split

from ttt.config import suggest


class UsageError(ValueError):
    """One line for the user; exit code 2."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's own reading of the command line, with options before, between or behind overrides."""
    parser = get_args_parser()
    # argparse would print its whole usage and exit.
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("--preview", action="store_true")
    return parser.parse_intermixed_args(list(argv))


def _refuse(message: str) -> NoReturn:
    raise UsageError(f"{message}; see ttt-run --help")


def check_command(typed: argparse.Namespace) -> DictConfig:
    """The config of the command, of its first run if it is a sweep.

    Raises UsageError for an unknown group, option or key, or a value that does not parse.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(typed.overrides)
    except HydraException as error:
        raise UsageError(f"{' '.join(typed.overrides)}: cannot be read as name=value pairs") from error
    extra = [f"hydra.searchpath=[file://{Path(typed.config_dir).resolve()}]"] if typed.config_dir else []
    if typed.config_dir and not Path(typed.config_dir).is_dir():
        raise UsageError(f"--config-dir {typed.config_dir}: no such folder")
    with initialize_config_module("ttt.conf", version_base="1.3", job_name="ttt-run"):
        loader = GlobalHydra.instance().config_loader()
        groups = [name for name in _options(loader, "", ObjectType.GROUP, extra) if name != "hydra"]
        for override in overrides:
            _check_kind(override, sweep=typed.multirun)
            _check_group(override, groups, loader, extra)
        choices = [str(o.input_line) for o in overrides if o.key_or_group in groups and not o.is_sweep_override()]
        known = compose("config", overrides=[*extra, *choices])
        for override in overrides:
            _check_key(override, known, groups)
        runs = split(typed.overrides) if typed.multirun else [typed.overrides]
        return [_compose(list(run), extra) for run in runs][0]  # noqa: RUF015 - every run is checked


def _check_kind(override: Override, *, sweep: bool) -> None:
    if override.is_delete():
        raise UsageError(f"{override.input_line}: settings cannot be deleted, only changed")
    if override.is_sweep_override() and not sweep:
        raise UsageError(f"{override.input_line}: several values are a sweep, which needs -m")


def _check_group(override: Override, groups: list[str], loader: ConfigLoader, extra: list[str]) -> None:
    group = override.key_or_group
    if group not in groups:
        return
    options = _options(loader, group, ObjectType.CONFIG, extra)
    values = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
    for value in values:
        if str(value) not in [*options, "null"]:
            raise UsageError(f"{group}={value}: unknown; {suggest(str(value), options)}")


def _check_key(override: Override, known: DictConfig, groups: list[str]) -> None:
    key = override.key_or_group
    if key in groups or key.startswith("hydra"):
        return
    node = known
    parts = key.split(".")
    # What `+` appends must at least lie in a section that somebody reads.
    for depth, name in enumerate(parts[:1] if override.is_add() or override.is_force_add() else parts):
        if not OmegaConf.is_dict(node) or name not in node:
            where = ".".join(parts[:depth])
            names = [str(k) for k in node if k not in ("_target_", "name")] if OmegaConf.is_dict(node) else []
            inside = f" in {where}" if where else ""
            allowed = suggest(name, names) if names else "it has no settings"
            raise UsageError(f"{override.input_line}: no {name!r}{inside}; {allowed}")
        node = node[name]
    value = override.value()
    if override.is_sweep_override():
        return
    if key == "seed" and (not isinstance(value, int) or isinstance(value, bool)):
        raise UsageError(f"{override.input_line}: must be an integer of at least 0")
    if key in ("output_dir", "cache_dir") and not (isinstance(value, str | QuotedString) and str(value)):
        raise UsageError(f"{override.input_line}: must name a folder")


def _compose(overrides: Sequence[str], extra: list[str]) -> DictConfig:
    try:
        config = compose("config", overrides=[*extra, *overrides])
        OmegaConf.to_container(config, resolve=True)
        return config
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_first_sentence(error)) from error


def _options(loader: ConfigLoader, group: str, kind: ObjectType, extra: list[str]) -> list[str]:
    return sorted(loader.get_group_options(group, kind, config_name="config", overrides=extra))


def _first_sentence(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
