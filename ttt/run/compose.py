"""Overrides as one types them -> the resolved config of a run, by Hydra."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ttt.config.environment_values import resolve_paths_alone
from ttt.config.faults import fault_of_yaml
from ttt.config.messages import UsageError
from ttt.run.packaged import read_packages_once


@dataclass(frozen=True)
class Composer:
    """Hydra, ready to compose; `folder`: the user's own, `searchpath`: overrides that show it."""

    loader: ConfigLoader
    searchpath: Sequence[str]
    folder: Path | None = None
    # What there is to choose does not change while a command is checked.
    _names: dict[tuple[str, ObjectType], list[str]] = field(default_factory=dict, init=False, repr=False)

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """The config of a run with Hydra's own, so that a launcher's settings are checked too."""
        try:
            config = self._on_choices(overrides)
            if config is None:
                config = compose("config", overrides=[*self.searchpath, *overrides], return_hydra_config=True)
            if self.folder and any(OmegaConf.is_list(config.get(group)) for group in self.groups()):
                raise TypeError("the section of a group is a list")
            return config
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(_first_line(error)) from error
        except (YAMLError, TypeError, ValueError) as error:
            # Hydra does not say which file it could not read.
            fault = fault_of_yaml(self.folder) if self.folder else ""
            if not fault:
                raise
            raise UsageError(fault) from error

    def _on_choices(self, overrides: Sequence[str]) -> DictConfig | None:
        """The same from parts that were chosen before, which takes a sixth of the time.

        Hydra puts settings on top of the parts at the very end. None where it must do it all: for
        settings of its own, and with files of the user's, which may have changed.
        """
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        groups = self.groups()
        choices = [override for override in parsed if override.key_or_group in groups]
        if self.folder or not (all(map(_is_setting, parsed)) and all(map(_is_choice, choices))):
            return None
        config = copy.deepcopy(_composed(tuple(str(choice.input_line) for choice in choices)))
        ConfigLoaderImpl._apply_overrides_to_config([x for x in parsed if x not in choices], config)
        return config

    def plain(self) -> DictConfig:
        """The config of the command without a word, from our own files alone."""
        return _composed(())

    def groups(self) -> list[str]:
        """The groups of the config, without those of Hydra."""
        return [name for name in self._options("", ObjectType.GROUP) if name != "hydra"]

    def options(self, group: str) -> list[str]:
        """What one may type behind `group=`."""
        return list(self._options(group, ObjectType.CONFIG))

    def _options(self, group: str, kind: ObjectType) -> list[str]:
        if (group, kind) not in self._names:
            # Hydra looks into the user's folder as well if the overrides show it the search path.
            names = self.loader.get_group_options(group, kind, config_name="config", overrides=list(self.searchpath))
            self._names[group, kind] = sorted(names)
        return self._names[group, kind]


@lru_cache
def _composed(choices: tuple[str, ...]) -> DictConfig:
    """The config of chosen parts from our own files, which stay as they are: not to be changed."""
    return compose("config", overrides=list(choices), return_hydra_config=True)


def _is_setting(override: Override) -> bool:
    """Is it a value for a part, or its choice, and nothing of Hydra's own?"""
    is_hydras = override.key_or_group.startswith("hydra") or "/" in override.key_or_group
    return not (is_hydras or override.is_sweep_override() or override.is_delete())


def _is_choice(override: Override) -> bool:
    return isinstance(override.value(), str) and not override.is_force_add()


def _check_own_parts(folder: Path, composer: Composer) -> None:
    """Raise UsageError where parts of the user's own would not be found, or ours in their place."""
    groups = composer.groups()
    if folder.resolve().name in groups and not any((folder / group).is_dir() for group in groups):
        raise UsageError(f"--config-dir {folder}: is the folder of a group; name the one above it, {folder.parent}")
    for group in groups:
        for file in sorted((folder / group).glob("*.yaml")):
            # Hydra takes the first of two files of one name, which is ours.
            if (files("ttt.conf") / group / file.name).is_file():
                raise UsageError(f"{file}: {group}={file.stem} is a part of ttt; give yours another name")


@contextmanager
def composing(config_dir: str | None = None) -> Iterator[Composer]:
    """Start Hydra on our configs and those in `config_dir`.

    Raises UsageError where that is no folder.
    """
    if config_dir and not Path(config_dir).is_dir():
        raise UsageError(f"--config-dir {config_dir}: no such folder")
    read_packages_once()
    with initialize_config_module("ttt.conf", version_base="1.3", job_name="ttt-run"):
        searchpath = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
        folder = Path(config_dir) if config_dir else None
        composer = Composer(GlobalHydra.instance().config_loader(), searchpath, folder)
        if folder:
            _check_own_parts(folder, composer)
        yield composer


def compose_run(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> dict[str, Any]:
    """The resolved config of one run. Raises UsageError for what Hydra refuses."""
    with composing(config_dir) as composer:
        return resolve(composer.config(overrides))


def resolve(config: DictConfig) -> dict[str, Any]:
    """A run's config as plain data, without Hydra's part, which is whole only in Hydra's runs."""
    try:
        keys = [str(key) for key in config if key != "hydra"]
        return with_base_seed(dict(resolve_paths_alone(OmegaConf.masked_copy(config, keys))))
    except (OmegaConfBaseException, ValueError) as error:
        raise UsageError(_first_line(error)) from error


def with_base_seed(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the run's own seed where it says base.seed=each."""
    if config["base"].get("seed") != "each":
        return config
    return config | {"base": config["base"] | {"seed": config["seed"]}}


def _first_line(error: Exception) -> str:
    line = str(error).strip().splitlines()[0]
    # OmegaConf names the setting in a line of its own.
    setting = getattr(error, "full_key", None)
    return f"{setting}: {line}" if setting and setting not in line else line
