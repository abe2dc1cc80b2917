"""`--only KEY=VALUE[,VALUE]` and `--seeds 0,1`: a part of a sweep or of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from ttt.cli.sweeps.grid import split
from ttt.compare.select import same_value
from ttt.config.messages import UsageError, show, suggest
from ttt.run.compose import Composer, composing


def runs_of(words: Sequence[str], *, only: Sequence[str] = (), config_dir: str | None = None) -> list[list[str]]:
    """The runs of a sweep that have one of the values of each of `only`."""
    runs = split([word for word in words if not word.lstrip("+~").startswith("hydra")])
    if not only:
        return runs
    with composing(config_dir) as composer:
        return [run for run in runs if all(_has(run, typed, composer) for typed in only)]


def chosen_sweeps(sweeps: Sequence[Sequence[str]], *, only: Sequence[str], config_dir: str | None) -> list[int]:
    """Which sweeps have a run that is chosen. Raises UsageError where none has."""
    for typed in only:
        key, equals, _ = typed.partition("=")
        if not (key and equals):
            raise UsageError(f"--only {typed}: must be KEY=VALUE or KEY=VALUE,VALUE, such as --only adapter=mlp_fast")
        runs = [run for words in sweeps for run in runs_of(words)]
        with composing(config_dir) as composer:
            values = {show(value_of(run, key, composer)) for run in runs}
            if not any(_has(run, typed, composer) for run in runs):
                raise UsageError(f"--only {typed}: no run has this value; {suggest(typed.partition('=')[2], values)}")
    chosen = [i for i, words in enumerate(sweeps) if runs_of(words, only=only, config_dir=config_dir)]
    if not chosen:
        raise UsageError(f"--only {' --only '.join(only)}: no run has all of these")
    return chosen


def value_of(run: Sequence[str], key: str, composer: Composer) -> Any:
    """What a run has at `key`; a group such as `adapter` stands for its option."""
    group = key.removesuffix(".name")
    # Composing takes time: what was typed need not be composed.
    # The last one counts of a key that is typed twice, as for Hydra.
    for word in reversed(run):
        name, _, value = word.lstrip("+").partition("=")
        if name in (key, group):
            return value
    config = composer.config(run)
    section = OmegaConf.select(config, key)
    if section is None and group not in config:
        raise UsageError(f"--only {key}=: no such key; {suggest(key, map(str, config))}")
    return OmegaConf.select(config, f"{group}.name") if OmegaConf.is_dict(section) else section


def _has(run: Sequence[str], typed: str, composer: Composer) -> bool:
    key, _, values = typed.partition("=")
    value = value_of(run, key, composer)
    return any(same_value(_number(value), wanted) for wanted in values.split(","))


def _number(value: Any) -> Any:
    """A typed word as the number that it is, so that 1e-3 matches 0.001."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
