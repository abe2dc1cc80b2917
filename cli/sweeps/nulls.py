"""The nulls that a comparison lacks: the runs' own settings without shift, started as a sweep.

The overrides of a null follow from the resolved config of its run, not from what was typed: an
experiment may set keys that the null's stream does not have.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttt.cli.console import say_error
from ttt.cli.sweeps.job import Starter
from ttt.cli.sweeps.sweep import Sweep, count_jobs
from ttt.compare.nulls import Null
from ttt.compare.runs import Run
from ttt.config.messages import UsageError, few, suggest
from ttt.run.compose import Composer, composing, resolve
from ttt.storage.read import flatten, read_config
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import read_object

# Sections that are a choice of one YAML file by its name.
CHOICES = ("source", "model", "base", "objective", "adapter", "optimizer", "strategy", "also", "logger")
PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./~")
SECONDS = "cost/run/seconds"


def output_dir(run: Run) -> Path:
    """The folder that holds a run as TASK/METHOD/SEED."""
    return run.folder.resolve().parents[2]


def start_nulls(runs: Sequence[Run], null: Null) -> int:
    """Run the nulls of `runs` into the same folders, after a line that says how many they are.

    Return the exit code of the sweep. Raises ValueError for a null that cannot be composed.
    """
    commands: dict[tuple[str, ...], Run] = {}
    for run in runs:
        commands.setdefault(tuple(null_overrides(run, null)), run)
    trainer = read_config(runs[0].folder)["trainer"]
    jobs = count_jobs("auto", accelerator=trainer["accelerator"], devices=trainer["devices"])
    # A null takes about as long as its run: it has the same budget.
    seconds = sum(run.costs.get(SECONDS, 0.0) for run in commands.values()) / min(jobs, len(commands))
    folder = output_dir(runs[0])
    how = f"{jobs} at a time, into {folder}, for about {_duration(seconds)}, as their own runs took"
    count = f"{len(commands)} {'null' if len(commands) == 1 else 'nulls'} ({null.typed}) to run"
    say_error(f"ttt-compare: {count}: {how}; --no-start refuses instead")
    starter = Starter(
        folder=folder / "sweeps" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
        cwd=Path.cwd(),
        extra=["trainer.threads=1"] if jobs > 1 and trainer["threads"] == "auto" else [],
        max_failures=None,
        objective="fast/loss/avg_learning",
    )
    # Programs read the table from stdout: how the sweep goes is for people.
    with contextlib.redirect_stdout(sys.stderr):
        return Sweep(_varied(list(commands)), starter, jobs).run_all([list(words) for words in commands])


def null_overrides(run: Run, null: Null) -> list[str]:
    """What one would type to run the null of `run`. Raises ValueError where there is no such."""
    config = read_config(run.folder)
    config_dir = _config_dir(run)
    with composing(config_dir) as composer:
        _check_options(null, composer)
        try:
            chosen = [*_choices(config, composer), *null.words]
            theirs, ours = (_settings(each) for each in (resolve(composer.config(chosen)), config))
            typed = {word.partition("=")[0] for word in null.words}
            but = {*typed, *null.conditions(run.config)}
            more = [
                f"{key}={_typed(value)}"
                for key, value in ours.items()
                # Keys that the null's stream does not have are about the shift that it lacks.
                if key in theirs and theirs[key] != value and key not in but
            ]
            words = [*chosen, *more, f"seed={run.seed}", f"output_dir={_typed(str(output_dir(run)))}"]
            flat = flatten(resolve(composer.config(words)))
        except UsageError as error:
            raise ValueError(f"--null {null.typed}: the null of {run.folder} cannot be composed: {error}") from error
    if not null.belongs(flat, run.config):
        keys = sorted(key for key in flat.keys() & run.config.keys() - but if flat[key] != run.config[key])
        raise ValueError(f"--null {null.typed}: the null of {run.folder} would differ from it in {few(keys)} too")
    return [*([f"--config-dir={config_dir}"] if config_dir else []), *words]


def _check_options(null: Null, composer: Composer) -> None:
    """Raise ValueError for an option that a group does not have: task=stationry."""
    for word in null.words:
        group, _, option = word.partition("=")
        if group in composer.groups() and option not in composer.options(group):
            raise ValueError(f"--null {word}: unknown; {suggest(option, composer.options(group))}")


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an override may set, flat: all that determines numbers, and how the run is run."""
    how = {f"trainer.{key}": value for key, value in config["trainer"].items() if key != "_target_"}
    shown = {key: config[key] for key in ("report", "cache_dir") if key in config}
    return flatten(config) | how | shown


def _choices(config: Mapping[str, Any], composer: Composer) -> list[str]:
    """The options of all groups: `adapter=mlp_fast`, `strategy@also=l2_init`."""
    sections = [group for group in CHOICES if config.get(group)]
    return [
        f"{'strategy@also' if group == 'also' else group}={_option(group, config[group], composer)}"
        for group in sections
    ]


def _option(group: str, section: Mapping[str, Any], composer: Composer) -> str:
    """The YAML file that a section came from: that of its name, or else of its class."""
    group = "strategy" if group == "also" else group
    options = composer.options(group)
    if section["name"] in options:
        return str(section["name"])
    for option in options:
        if resolve(composer.config([f"{group}={option}"]))[group].get("_target_") == section["_target_"]:
            return option
    raise UsageError(f"{group}={section['name']}: no such option any more")


def _config_dir(run: Run) -> str | None:
    """The folder of the user's own YAML files with which a run was started."""
    file = RunFolder(run.folder).environment
    command = read_object(file, {}).get("command", []) if file.is_file() else []
    # The option may be one word, --config-dir=DIR, or two.
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word.startswith("--config-dir"):
            return word.partition("=")[2] or after
    return None


def _typed(value: Any) -> str:
    """A value in Hydra's grammar; words that are not plain stand in quotes."""
    if isinstance(value, str):
        is_plain = value and set(value) <= PLAIN and value not in ("null", "true", "false")
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    return json.dumps(value)


def _varied(commands: Sequence[Sequence[str]]) -> list[str]:
    """The words that tell the runs apart, written as one sweep over all of their values."""
    values: dict[str, dict[str, None]] = {}
    for words in commands:
        for word in words:
            key, _, value = word.partition("=")
            values.setdefault(key, {})[value] = None
    return [f"{key}={','.join(several)}" for key, several in values.items() if len(several) > 1]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
