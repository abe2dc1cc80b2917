"""Our own YAML files as Hydra reads them, each parsed once a process.

A command composes its config several times, and each time Hydra would read some thirty files anew
with a parser in Python: most of the time in which a finished run is shown.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml
from hydra._internal.core_plugins import importlib_resources_config_source as packages
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from ttt.config.loader import yaml_loader


# It has the name of the class that it replaces: by this a worker of a launcher knows it again.
class ImportlibResourcesConfigSource(packages.ImportlibResourcesConfigSource):
    """The files of a package, as `pkg://ttt.conf`."""

    def _read_config(self, res: Any) -> ConfigResult:
        text = res.read_text(encoding="utf-8")
        return ConfigResult(
            # A config of its own each time: composing changes it.
            config=OmegaConf.create(_parsed(text) or {}),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=self._get_header_dict(text[:512]),
        )


@cache
def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=yaml_loader())


def read_packages_once() -> None:
    """Let Hydra read packages in this way."""
    # Its plugins fill the registry, among them the class that is replaced here.
    Plugins.instance()
    SourcesRegistry.instance().types[ImportlibResourcesConfigSource.scheme()] = ImportlibResourcesConfigSource
