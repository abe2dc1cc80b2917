"""Before anything is imported or made: does what the user typed name things that exist?

Hydra answers a typo with a list or a traceback; this answers with the nearest match.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ttt.cli.sweeps.sweep import split
from ttt.config.messages import show, suggest

# Launchers and sweepers of Hydra's, and which extra of ttt brings them.
EXTRAS = {
    "hydra/launcher": {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"},
    "hydra/sweeper": {"optuna": "optuna"},
}


class UsageError(ValueError):
    """One line for the user; exit code 2."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's own reading of the command line, with options before, between or behind overrides."""
    parser = get_args_parser()
    # argparse would print its whole usage and exit.
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("--preview", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--study")
    return parser.parse_intermixed_args(list(argv))


def _refuse(message: str) -> NoReturn:
    raise UsageError(f"{message}; see ttt-run --help")


@contextmanager
def _composer(config_dir: str | None) -> Iterator[tuple[ConfigLoader, list[str]]]:
    """Hydra, ready to compose: its loader, and the overrides that let it see the user's own folder."""
    if config_dir and not Path(config_dir).is_dir():
        raise UsageError(f"--config-dir {config_dir}: no such folder")
    with initialize_config_module("ttt.conf", version_base="1.3", job_name="ttt-run"):
        extra = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
        yield GlobalHydra.instance().config_loader(), extra


def check_command(typed: argparse.Namespace) -> DictConfig:
    """The config of the command, of its first run if it is a sweep, with that of Hydra itself.

    Raises UsageError for an unknown group, option or key, or a value that does not parse.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(typed.overrides)
    except HydraException as error:
        raise UsageError(f"{' '.join(typed.overrides)}: cannot be read as name=value pairs") from error
    with _composer(typed.config_dir) as (loader, extra):
        groups = [name for name in _options(loader, "", ObjectType.GROUP, extra) if name != "hydra"] + list(EXTRAS)
        for override in overrides:
            _check_kind(override, sweep=typed.multirun)
            _check_group(override, groups, loader, extra)
        choices = [str(o.input_line) for o in overrides if o.key_or_group in groups and not o.is_sweep_override()]
        known = _compose(choices, extra)
        for override in overrides:
            _check_key(override, known, groups)
        searches = str(known.hydra.runtime.choices["hydra/sweeper"]) != "basic"
        # Composing takes time. What fits together is decided by options; the values of a setting all fit or none.
        runs = split(_first_values(overrides, keep=() if searches else groups, search=searches))
        config, *others = (_compose(run, extra) for run in runs)
        for each in (config, *others):
            _resolve(each)
        _check_sweep(config)
        return config


def compose_run(overrides: Sequence[str], *, config_dir: str | None) -> dict[str, Any]:
    """The resolved config of one run."""
    with _composer(config_dir) as (_, extra):
        return _resolve(_compose(overrides, extra))


def experiments(config_dir: str | None) -> list[str]:
    with _composer(config_dir) as (loader, extra):
        return _options(loader, "experiment", ObjectType.CONFIG, extra)


def study_of(experiment: str, *, config_dir: str | None) -> list[Any]:
    """The sweep that an experiment lists under `study`, or its sweeps; empty if it lists none."""
    with _composer(config_dir) as (_, extra):
        return list(_compose([f"experiment={experiment}"], extra).study or [])


def _first_values(overrides: Sequence[Override], *, keep: Sequence[str], search: bool) -> list[str]:
    """What was typed, each sweep cut to its first value but for those over the groups in `keep`."""
    words = []
    for override in overrides:
        word = str(override.input_line)
        value = override.value()
        if isinstance(value, IntervalSweep) and not search:
            raise UsageError(f"{word}: an interval is searched by a sweeper, such as hydra/sweeper=optuna")
        if override.is_sweep_override() and override.key_or_group not in keep:
            first = value.start if isinstance(value, IntervalSweep) else next(override.sweep_string_iterator())
            word = f"{override.get_key_element()}={first}"
        words.append(word)
    return words


def _check_sweep(config: DictConfig) -> None:
    for name, words in (("jobs", "auto"), ("max_failures", "null")):
        value = config.sweep[name]
        unset = value is None if words == "null" else value == words
        if not unset and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UsageError(f"sweep.{name}={show(value)}: must be {words} or a number of at least 1")


def _check_kind(override: Override, *, sweep: bool) -> None:
    if override.is_delete():
        raise UsageError(f"{override.input_line}: settings cannot be deleted, only changed")
    if override.is_sweep_override() and not sweep:
        raise UsageError(f"{override.input_line}: several values are a sweep, which needs -m")
    if override.key_or_group in EXTRAS and not sweep:
        raise UsageError(f"{override.input_line}: is for a sweep, which needs -m")


def _check_group(override: Override, groups: list[str], loader: ConfigLoader, extra: list[str]) -> None:
    group = override.key_or_group
    if group not in groups:
        return
    options = _options(loader, group, ObjectType.CONFIG, extra)
    values = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
    for value in values:
        extras = EXTRAS.get(group, {})
        if str(value) in extras and str(value) not in options:
            raise UsageError(f'{group}={value}: not installed; pip install "ttt[{extras[str(value)]}]"')
        if str(value) not in options:
            # With its package, as in strategy@also.
            typed = override.get_key_element().lstrip("+")
            raise UsageError(f"{typed}={value}: unknown; {suggest(str(value), {*options, *extras})}")


def _check_key(override: Override, known: DictConfig, groups: list[str]) -> None:
    key = override.key_or_group
    if key in groups:
        return
    if key == "study":
        raise UsageError(f"{override.input_line}: a study stands in experiment/NAME.yaml and is run by --study NAME")
    if key == "published":
        raise UsageError(f"{override.input_line}: published values stand in experiment/NAME.yaml")
    node = known
    parts = key.split(".")
    # What `+` appends must at least lie in a section that somebody reads.
    walked = parts[:1] if override.is_add() or override.is_force_add() else parts
    for depth, name in enumerate(walked):
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
    if walked == parts and OmegaConf.is_dict(node) and not isinstance(value, dict):
        raise UsageError(f"{override.input_line}: is a section; set {key}.NAME, of {', '.join(map(str, node))}")
    if key == "seed" and (not isinstance(value, int) or isinstance(value, bool)):
        raise UsageError(f"{override.input_line}: must be an integer of at least 0")
    if key in ("output_dir", "cache_dir") and not (isinstance(value, str | QuotedString) and str(value)):
        raise UsageError(f"{override.input_line}: must name a folder")


def _compose(overrides: Sequence[str], extra: list[str]) -> DictConfig:
    """With Hydra's own config, so that what is typed for a launcher or a sweeper is checked too."""
    try:
        return compose("config", overrides=[*extra, *overrides], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_first_sentence(error)) from error


def _resolve(config: DictConfig) -> dict[str, Any]:
    """The config of a run, without Hydra's, which is whole only in a run of Hydra's."""
    try:
        keys = [str(key) for key in config if key != "hydra"]
        content: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, keys), resolve=True)
        return dict(content)
    except OmegaConfBaseException as error:
        raise UsageError(_first_sentence(error)) from error


def _options(loader: ConfigLoader, group: str, kind: ObjectType, extra: list[str]) -> list[str]:
    return sorted(loader.get_group_options(group, kind, config_name="config", overrides=extra))


def _first_sentence(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
