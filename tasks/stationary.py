"""`stationary`: the base distribution, again and again. The null of every metric.

Nothing shifts, so whatever reads as forgetting or lost plasticity here is noise or bias of the
measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttt.stream import Source, Stream
from ttt.tasks.machinery.cut import BASE, LEARN, SourceView
from ttt.tasks.machinery.settings import StreamSettings


@dataclass(frozen=True, kw_only=True)
class Stationary(StreamSettings):
    """Tasks that draw different batches and share one eval part.

    Arguments are explained in conf/stream.yaml.
    """

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        scenario = self.pick_scenario(allowed=("domain",), why="all tasks have the same outputs")
        every = np.arange(sum(len(family) for family in source.families()))
        view = SourceView(source=source, classes=every)
        # The same view in all tasks: what tells them apart is the key of their draws alone.
        tasks = [
            self.task([view], name=f"the same, part {i + 1}", key=[seed, LEARN, i])
            for i in range(self.needed("num_tasks"))
        ]
        # The base is of the same view too: the stream teaches nothing that is new.
        base = self.base([view], base_seed=base_seed, key=BASE)
        return self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)
