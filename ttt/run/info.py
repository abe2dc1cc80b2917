"""The names of a run: the same config on the same data is the same folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ttt.config.identity import identity
from ttt.config.messages import show
from ttt.sinks.base import RunInfo

# What a part may be called.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def describe(config: dict[str, Any], *, data: str, weights: str = "") -> RunInfo:
    """Who a run is, from its resolved config and the fingerprint of its data.

    `weights`: the fingerprint of published weights in a folder, which may then lie anywhere.
    """
    name = {group: config[group]["name"] for group in ("task", "source", "adapter", "strategy", "optimizer")}
    for group, part in name.items():
        # Names become folders: one from a file of somebody else must not lead out of output_dir.
        if not NAME.fullmatch(str(part)):
            raise ValueError(
                f"{group}.name={show(part)}: must be letters, digits, -, _ and ., and begin with a letter or digit"
            )
    if config.get("also") is not None:
        name["strategy"] += f"+{config['also']['name']}"
    method = f"{name['adapter']}-{name['strategy']}-{name['optimizer']}"
    # Eight hex digits are 32 bits, which are enough to tell the runs of one method and seed apart.
    run_id = identity(config, data=data, weights=weights)[:8]
    folder = Path(config["output_dir"]).expanduser() / name["task"] / method / f"seed{config['seed']}-{run_id}"
    # Runs that differ in nothing but the seed form one group.
    unseeded = {**config, "seed": 0, "base": {**config["base"], "seed": 0}}
    group_id = identity(unseeded, data=data, weights=weights)[:6]
    return RunInfo(
        id=run_id,
        task=name["task"],
        group=f"{name['task']}/{name['source']}/{method}/{group_id}",
        name=f"{method}/seed{config['seed']}-{run_id}",
        tags=(name["task"], name["source"], name["adapter"], name["strategy"], name["optimizer"]),
        config=config,
        folder=folder,
    )
