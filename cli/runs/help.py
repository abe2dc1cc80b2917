"""`ttt-run --help`.

Hydra's own takes over a second, because it copies the config for every group it lists.
"""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import ttt.conf

HEAD = """ttt-run: does this model keep learning, and what does it forget?

  ttt-run task=split-sequence adapter=mlp_fast                        one run
  ttt-run -m adapter=none,mlp_fast seeds=5                            a sweep; seeds=5 is seed=0,1,2,3,4
  ttt-run -m --dry-run adapter=none,mlp_fast seeds=5                  what a sweep would run, and where
  ttt-run --study frontier                                            the sweep that an experiment lists
  ttt-run adapter=mlp_fast adapter.reset=never optimizer.lr=1e-4      any value of the config below
  ttt-run --preview task=permuted-sequence source=digits             the stream, without training
  ttt-run --config-dir ./mine adapter=mine                            your own parts

The same command again prints a finished run at once and resumes an interrupted one; results are
bit-equal for the same device, number of threads and library versions.

== Groups: name=option ==
"""


def help_text() -> str:
    options: dict[str, list[str]] = {}
    for path in sorted(Path(ttt.conf.__path__[0]).glob("*/*.yaml")):
        options.setdefault(path.parent.name, []).append(path.stem)
    groups = "\n".join(f"{group}: {', '.join(names)}" for group, names in options.items())
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = OmegaConf.to_yaml(compose("config"))
    return f"{HEAD}\n{groups}\n\n== Config: name=value ==\n\n{config}"
