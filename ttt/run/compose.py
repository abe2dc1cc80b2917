"""Overrides as one types them -> the resolved config of a run, by Hydra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ttt.config.environment_values import resolve_paths_alone
from ttt.config.faults import fault_of_yaml
from ttt.config.messages import UsageError


@dataclass(frozen=True)
class Composer:
    """Hydra, ready to compose; `folder`: the user's own, `searchpath`: overrides that show it."""

    loader: ConfigLoader
    searchpath: Sequence[str]
    folder: Path | None = None

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """The config of a run with Hydra's own, so that a launcher's settings are checked too."""
        try:
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

    def plain(self) -> DictConfig:
        """The config of the command without a word, from our own files alone."""
        return compose("config", overrides=[], return_hydra_config=True)

    def groups(self) -> list[str]:
        """The groups of the config, without those of Hydra."""
        return [name for name in self._names("", ObjectType.GROUP) if name != "hydra"]

    def options(self, group: str) -> list[str]:
        """What one may type behind `group=`."""
        return self._names(group, ObjectType.CONFIG)

    def _names(self, group: str, kind: ObjectType) -> list[str]:
        # Hydra looks into the user's folder as well if the overrides show it the search path.
        names = self.loader.get_group_options(group, kind, config_name="config", overrides=list(self.searchpath))
        return sorted(names)


@contextmanager
def composing(config_dir: str | None = None) -> Iterator[Composer]:
    """Start Hydra on our configs and those in `config_dir`.

    Raises UsageError where that is no folder.
    """
    if config_dir and not Path(config_dir).is_dir():
        raise UsageError(f"--config-dir {config_dir}: no such folder")
    with initialize_config_module("ttt.conf", version_base="1.3", job_name="ttt-run"):
        searchpath = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
        yield Composer(GlobalHydra.instance().config_loader(), searchpath, Path(config_dir) if config_dir else None)


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
