"""Before anything is imported or made: does what the user typed name things that exist?

Hydra answers a typo with a list or a traceback; this answers with the nearest match.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from ttt.cli.runs.habits import USUAL, meant, option_meant, words_meant
from ttt.cli.runs.help import Library
from ttt.cli.runs.hydra_settings import check_hydra
from ttt.cli.sweeps.grid import split
from ttt.config.annotations import check_values
from ttt.config.extras import PLUGINS, install
from ttt.config.messages import UsageError, few, show, suggest
from ttt.run.compose import Composer, composing, resolve


def check_command(typed: argparse.Namespace) -> DictConfig:
    """The config of the command (of its first run if it is a sweep), with that of Hydra itself.

    Raises UsageError for an unknown group, option or key, or a value that does not parse.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(typed.overrides)
    except HydraException as error:
        hint = "; quote a value that holds =: \"name='a=b'\"" if any(x.count("=") > 1 for x in typed.overrides) else ""
        hint = "; no spaces around =" if "=" in typed.overrides else hint
        words = words_meant(typed.overrides)
        hint = f"; did you mean {words}?" if words and not hint else hint
        raise UsageError(f"{' '.join(typed.overrides)}: cannot be read as name=value pairs{hint}") from error
    with composing(typed.config_dir) as composer:
        groups = [*composer.groups(), *PLUGINS]
        for override in overrides:
            _check_kind(override, sweep=typed.multirun)
            _check_group(override, groups, composer)
        # Options come first: which keys there are depends on the parts that were chosen.
        choices = [str(o.input_line) for o in overrides if o.key_or_group in groups and not o.is_sweep_override()]
        chosen = composer.config(choices)
        plain = composer.plain()
        for override in overrides:
            _check_key(override, chosen, composer)
        searches = str(chosen.hydra.runtime.choices["hydra/sweeper"]) != "basic"
        # Composing takes time, so of a sweep over values only the first is composed: what fits
        # together is decided by options, and the values of a setting all fit or none.
        runs = split(_first_values(overrides, keep=() if searches else groups, search=searches))
        configs = [_composed(composer, run) for run in runs]
        try:
            for config in configs:
                check_hydra(config.hydra, plain=plain.hydra)
                check_values(resolve(config))
            _check_listed_values(overrides, configs[0])
        except ValueError as error:
            raise UsageError(str(error)) from error
        _check_sweep(configs[0])
        return configs[0]


def _composed(composer: Composer, run: Sequence[str]) -> DictConfig:
    """The config of one run of a sweep, whose parts may lack a setting that others have."""
    try:
        return composer.config(run)
    except UsageError as error:
        # These are Hydra's words for a key that a section does not have.
        _, quote, rest = str(error).partition("Could not override '")
        if not quote:
            raise
        group, _, key = rest.partition("'")[0].partition(".")
        part = next((word for word in run if word.startswith(f"{group}=")), group)
        raise UsageError(
            f"{group}.{key}: {part} has no {key!r}, and a sweep gives every setting to every part; "
            f"type one command for the parts that have it and another for {part}"
        ) from error


def _first_values(overrides: Sequence[Override], *, keep: Sequence[str], search: bool) -> list[str]:
    """The overrides, each sweep cut to its first value unless it is over a group in `keep`."""
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


def _check_listed_values(overrides: Sequence[Override], config: DictConfig) -> None:
    """Check all values of a sweep over a setting, before the first run starts."""
    for override in overrides:
        group, _, key = override.key_or_group.partition(".")
        if not override.is_sweep_override() or isinstance(override.value(), IntervalSweep) or group not in config:
            continue
        section = config[group]
        if OmegaConf.is_dict(section) and "_target_" in section and key:
            for value in override.sweep_iterator():
                plain = value.text if isinstance(value, QuotedString) else value
                check_values({group: {"_target_": section["_target_"], key: plain}})


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
    if override.key_or_group in PLUGINS and not sweep:
        raise UsageError(f"{override.input_line}: is for a sweep, which needs -m")


def _check_group(override: Override, groups: list[str], composer: Composer) -> None:
    group = override.key_or_group
    if group not in groups:
        return
    options = composer.options(group)
    values = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
    for value in values:
        extras = PLUGINS.get(group, {})
        if str(value) in extras and str(value) not in options:
            raise UsageError(f"{group}={value}: not installed; {install(extras[str(value)])}")
        if str(value) not in options:
            # With its package, as in strategy@also.
            typed = override.get_key_element().lstrip("+")
            better = option_meant(group, str(value))
            hint = f"type {better}; " if better else ""
            where = "" if composer.folder else "; parts of your own need --config-dir FOLDER"
            raise UsageError(f"{typed}={value}: unknown; {hint}{suggest(str(value), {*options, *extras})}{where}")


def _check_key(override: Override, config: DictConfig, composer: Composer) -> None:
    key = override.key_or_group
    if key in (*composer.groups(), *PLUGINS):
        return
    if key == "study":
        raise UsageError(f"{override.input_line}: a study stands in experiment/NAME.yaml and is run by --study NAME")
    if key == "published":
        raise UsageError(f"{override.input_line}: published values stand in experiment/NAME.yaml")
    node: Any = config
    parts = key.split(".")
    # What `+` appends must at least lie in a section that somebody reads.
    walked = parts[:1] if override.is_add() or override.is_force_add() else parts
    # The walk goes down the config name by name, and the first that is missing is refused.
    for depth, name in enumerate(walked):
        if not OmegaConf.is_dict(node) or name not in set(node):
            where = ".".join(parts[:depth])
            names = _typed_names(node) if OmegaConf.is_dict(node) else []
            inside = f" in {where}" if where else ""
            allowed = suggest(name, names) if names else f"{where}={node.get('name')} has no settings"
            better = setting_meant(override, config, composer)
            why = f"did you mean {better}? allowed: {few(sorted(names))}" if better and names else allowed
            why = f"{allowed}; did you mean {better}?" if better and not names else why
            raise UsageError(f"{override.input_line}: no {name!r}{inside}; {why}")
        # What must be typed (???) has no value yet.
        node = None if OmegaConf.is_missing(node, name) else node[name]
    value = override.value()
    if override.is_sweep_override():
        return
    if walked == parts and OmegaConf.is_dict(node) and not isinstance(value, dict):
        raise UsageError(f"{override.input_line}: is a section; set {key}.NAME, of {few(map(str, node))}")
    if key == "seed" and (not isinstance(value, int) or isinstance(value, bool)):
        raise UsageError(f"{override.input_line}: must be an integer of at least 0; several: -m seeds=5 or -m seed=0,1")
    if key in ("output_dir", "cache_dir") and not (isinstance(value, str | QuotedString) and str(value)):
        raise UsageError(f"{override.input_line}: must name a folder")


def setting_meant(override: Override, config: DictConfig, composer: Composer) -> str:
    """The whole word that would do what an unknown setting was meant to do; or nothing."""
    plain: Any = OmegaConf.to_container(config)
    path = meant(override.key_or_group.rpartition(".")[2], plain)
    if not path:
        return ""
    if "=" in path.partition(" ")[0] and "." not in path.rpartition("=")[2]:
        # It is a whole word already.
        return path
    value = override.get_value_element_as_str()
    group, _, key = path.rpartition(" ")[2].partition(".")
    if not key or key in plain.get(group, {}) or group not in composer.groups():
        return f"{path}={value}"
    # The option at hand lacks it: name the first that has it.
    # Only YAML is read for that: no class is imported.
    library = Library([])
    having = sorted(composer.options(group), key=lambda name: name not in USUAL)
    having = [name for name in having if key in library.keys(group, name)]
    return f"{group}={having[0]} {path}={value}" if having else ""


def _typed_names(section: DictConfig) -> list[str]:
    """What one may type in a section; its `name` only where the YAML leaves that open (???)."""
    hidden = ["_target_"] if OmegaConf.is_missing(section, "name") else ["_target_", "name"]
    return [str(key) for key in section if key not in hidden]
