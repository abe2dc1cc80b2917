"""`there-and-back`: the classes of a source in order, and back again to the first.

    tasks      A  B  C
    phases     A  B  C  B  A        on the way back a phase reads new batches of its task

What was forgotten on the way shows in the rows of the second visit.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ttt.stream import Batch, Phase, Source, Stream
from ttt.tasks.machinery.cut import BASE, LEARN, SourceView
from ttt.tasks.machinery.settings import StreamSettings


@dataclass(frozen=True, kw_only=True)
class ThereAndBack(StreamSettings):
    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        # One class of each family, since classes of one family share content.
        families, count = source.families(), self.needed("num_tasks")
        if len(families) < count:
            raise ValueError(f"task.num_tasks={count}: source={source.name} has {len(families)} unrelated classes")
        views = [SourceView(source=source, classes=np.array(family[:1])) for family in families[:count]]
        tasks = [
            self.task([view], name=source.class_name(int(view.classes[0])), key=[seed, LEARN, index])
            for index, view in enumerate(views)
        ]
        # The families that are no task are what a base is trained on.
        rest = np.array([index for family in families[count:] for index in family], dtype=np.int64)
        base = self.base([SourceView(source=source, classes=rest)], base_seed=base_seed, key=BASE)
        scenario = self.pick_scenario(allowed=("domain",), why="all outputs compete in all tasks")
        there = self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)
        back = [
            replace(phase, name=f"{phase.name} (again)", batch=partial(later, phase))
            for phase in reversed(there.phases[:-1])
        ]
        return replace(there, phases=[*there.phases, *back])


def later(phase: Phase, step: int) -> Batch:
    """A module's function, so that worker processes can be handed it."""
    return phase.batch(phase.steps + step)
