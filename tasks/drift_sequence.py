"""`drift-sequence`: no boundaries. What rows of a batch are drawn from changes with the step.

    abrupt     A A A B B B C C C         linear     A A a b B B b c C C         recurring     linear, round and round

Concepts are cut like the tasks of split-sequence. The learner is never told where one begins: fast weights are
not reset, strategies hear of no end of a task. Rows of R are taken at equal distances, one for each concept's
turn; a concept counts as learned when its first turn is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ttt.stream import Batch, Phase, Task, mixture
from ttt.tasks.machinery.cut import MIX
from ttt.tasks.split_sequence import SplitSequence

SCHEDULES = ("abrupt", "linear", "recurring")


@dataclass(frozen=True, kw_only=True)
class DriftSequence(SplitSequence):
    """Arguments are explained in conf/task/drift-sequence.yaml."""

    schedule: str
    cycles: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in SCHEDULES:
            raise ValueError(f"task.schedule={self.schedule}: must be one of {', '.join(SCHEDULES)}")
        if self.cycles < 1:
            raise ValueError(f"task.cycles={self.cycles}: must be at least 1")
        for argument in ("revisits", "blur"):
            if getattr(self, argument):
                raise ValueError(
                    f"task.{argument}={getattr(self, argument)}: {self.name} has no boundaries; "
                    "use task.schedule=linear or recurring"
                )
        if not isinstance(self.steps_per_task, int):
            raise ValueError(f"task.steps_per_task={self.steps_per_task}: {self.name} mixes tasks; give a number")

    def phases(self, tasks: Sequence[Task], *, seed: int) -> list[Phase]:
        turns = len(tasks) * (self.cycles if self.schedule == "recurring" else 1)
        return [
            Phase(
                name=f"turn {turn + 1}",
                task=turn % len(tasks),
                steps=self.needed("steps_per_task"),
                batch=partial(self._mixed, tasks, turns, seed, turn),
                announced=False,
            )
            for turn in range(turns)
        ]

    def _mixed(self, tasks: Sequence[Task], turns: int, seed: int, turn: int, step: int) -> Batch:
        steps = self.needed("steps_per_task")
        now = turn + (step + 0.5) / steps
        share_J = weights(now, concepts=len(tasks), schedule=self.schedule, turns=turns)
        return mixture(tasks, share_J, key=[seed, MIX], step=turn * steps + step, rows=self.batch_size)


def weights(turn: float, *, concepts: int, schedule: str, turns: int) -> NDArray[np.float64]:
    """The mixture at a time counted in turns: concept j is at its purest in the middle of its turn, j + 1/2.

    abrupt: only the concept whose turn it is. Else its weight falls linearly to zero over the length of one turn
    on both sides; before the first middle and behind the last there is nobody to share with.
    """
    if schedule == "abrupt":
        return np.eye(concepts)[min(int(turn), turns - 1) % concepts]
    place = float(np.clip(turn - 0.5, 0, turns - 1))
    low = int(place)
    high = min(low + 1, turns - 1)
    mix = np.zeros(concepts)
    mix[low % concepts] += 1 - (place - low)
    mix[high % concepts] += place - low
    return mix
