"""Values of the environment in a config, `${oc.env:NAME}`: they may be paths, and nothing else.

A config goes into files, pages and trackers, and a token that came with it would be published.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

# The names of settings that are paths, in every section.
PATHS = ("cache_dir", "output_dir", "path")
RESOLVER = "oc.env"


def resolve_paths_alone(config: DictConfig) -> Any:
    """Return a config as plain data, with its interpolations resolved.

    Raises ValueError for `${oc.env:NAME}` in a setting that is no path, however it is written.
    """
    refused: list[str] = []

    def of_path(name: str, *default: Any, _node_: Node) -> Any:
        key = _node_._get_full_key(None)
        if key.rpartition(".")[2] in PATHS:
            return oc.env(name, *default)
        refused.append(
            f"{key}: takes no value of the environment ({name}), because a run writes its settings down; "
            f"only {', '.join(PATHS)} take one"
        )
        return None

    content: Any = None
    OmegaConf.register_new_resolver(RESOLVER, of_path, replace=True)
    try:
        content = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException:
        # What is made of a refused value fails too.
        if not refused:
            raise
    finally:
        OmegaConf.register_new_resolver(RESOLVER, oc.env, replace=True)
    if refused:
        raise ValueError(refused[0])
    return content
