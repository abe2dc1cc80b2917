"""`drift-sequence`: no boundaries. The mixture that a batch is drawn from changes with the step.

    abrupt     A A A B B B C C C         linear     A A a b B B b c C C
    recurring  linear, and the concepts come round again

Concepts are cut like the tasks of split-sequence. The learner never learns where a concept begins:
fast weights are not reset, and strategies hear of no end of a task. Rows of R are measured at equal
distances, one for each concept's turn; a concept counts as learned when its first turn is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from ttt.stream import Batch, Phase, Task, mixture
from ttt.tasks.machinery.cut import MIX
from ttt.tasks.split_sequence import SplitSequence


@dataclass(frozen=True, kw_only=True)
class DriftSequence(SplitSequence):
    """Arguments are explained in conf/task/drift-sequence.yaml."""

    schedule: Literal["abrupt", "linear", "recurring"]
    cycles: Annotated[int, Ge(1)]

    def __post_init__(self) -> None:
        super().__post_init__()
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
                steps=int(self.steps_per_task),
                batch=partial(self._mixed, tasks, turns, seed, turn),
                announced=False,
            )
            for turn in range(turns)
        ]

    def _mixed(self, tasks: Sequence[Task], turns: int, seed: int, turn: int, step: int) -> Batch:
        """Return a batch of the mixture in the middle of this step."""
        steps = int(self.steps_per_task)
        # A step counts from its middle, so that both halves of a stream are mirror images.
        now = turn + (step + 0.5) / steps
        share_J = concept_shares(now, concepts=len(tasks), schedule=self.schedule, turns=turns)
        return mixture(tasks, share_J, key=[seed, MIX], step=turn * steps + step, rows=self.batch_size)


def concept_shares(turn: float, *, concepts: int, schedule: str, turns: int) -> NDArray[np.float64]:
    """Return the share of each concept [concepts] at a time counted in turns; they add up to 1.

    Concept j stands alone in the middle of its turn, at j + 1/2.
    abrupt: only the concept of the present turn. Otherwise a concept's share falls linearly to zero
    over the length of one turn on both sides; before the first middle and after the last one there
    is no other concept to share with.
    """
    if schedule == "abrupt":
        return np.eye(concepts)[min(int(turn), turns - 1) % concepts]
    # Time counts from the middle of the first turn: at whole numbers one concept stands alone.
    place = float(np.clip(turn - 0.5, 0, turns - 1))
    low = int(place)
    high = min(low + 1, turns - 1)
    shares = np.zeros(concepts)
    # Added, not set: low and high may be the same concept, at the end or with one concept only.
    shares[low % concepts] += 1 - (place - low)
    shares[high % concepts] += place - low
    return shares
