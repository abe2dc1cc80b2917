"""What replay, der and agem share: a memory of rows that are read again in later tasks.

Rows of an announced task wait until it ends (memory.py): only rows of earlier tasks are drawn, and
the task at hand takes no place from them meanwhile. Where the stream announces no tasks, rows may
be drawn as soon as they are stored.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.strategies.memory import Memory
from ttt.strategies.shared import AtLeastOne, check_tasks, key_of
from ttt.stream import IGNORE, Batch, Ints, Stream, batch_rows

Balance = Literal["reservoir", "task", "class"]
COLUMNS = ("tokens", "targets", "segments", "outputs")


class Rehearsal(Strategy):
    """Arguments are explained in conf/strategy/replay.yaml."""

    def __init__(self, *, name: str, size: AtLeastOne, rows: AtLeastOne | None, balance: Balance) -> None:
        super().__init__(name=name)
        self._rows, self._balance, self._size = rows, balance, size
        # A stand-in until `begin`, where the stream says how many groups there are.
        self.stored = Memory(size=size, groups=1, key=0)
        self._task, self._waits = 0, False
        self._device = torch.device("cpu")

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        if self._balance == "task":
            check_tasks(stream, name=f"{self.name} strategy.balance=task")
        if self._balance == "class":
            _check_one_target(stream.phases[0].batch(0))
        rows = self._rows or batch_rows(stream.phases)
        if rows % parts:
            raise ValueError(f"strategy.rows={rows}: must be a multiple of {parts}, for devices and parts to share")

    def begin(self, engine: Engine, stream: Stream) -> None:
        # As many as a batch has, unless the user said how many.
        self._rows = self._rows or batch_rows(stream.phases)
        # A group is what gets an equal share of the
        # memory: all rows, or those of a task or a label.
        groups = {"reservoir": 1, "task": len(stream.tasks), "class": stream.vocab_size}
        self._stream, self._device = stream, engine.fabric.device
        self.stored = Memory(size=self._size, groups=groups[self._balance], key=key_of(stream))

    def begin_task(self, engine: Engine, index: int) -> None:
        self._task, self._waits = self._stream.phases[index].task, True

    def end_task(self, engine: Engine, index: int) -> None:
        self.stored.admit()
        self._waits = False

    def draw(self) -> Batch | None:
        """Return rows to read again; None while nothing old is stored."""
        columns = self.draw_columns()
        return None if columns is None else batch_of(columns)

    def draw_columns(self) -> dict[str, Tensor] | None:
        """Return all that is stored of the rows that `draw` would return."""
        return self.stored.draw(self._rows or 1)

    def choose(self, batch: Batch) -> tuple[Ints, Ints]:
        """Decide which rows of `batch` are kept; return their indices and their places."""
        group: Ints | int = self._task if self._balance == "task" else 0
        if self._balance == "class":
            # A row has one scored target, and IGNORE, which is negative, elsewhere.
            group = batch.targets_BT.amax(1).cpu().numpy()
        return self.stored.reservoir.choose(group, rows=len(batch.tokens_BT))

    def keep(self, columns: dict[str, Tensor], places: Ints) -> None:
        """Store the rows that `choose` has chosen."""
        self.stored.put(columns, places, waits=self._waits)

    def see(self, batch: Batch) -> None:
        """Store the rows of `batch` that are to be kept."""
        rows, places = self.choose(batch)
        if len(rows):
            self.keep(columns_of(batch, rows), places)

    def state(self) -> dict[str, Tensor]:
        inside = {"task": torch.tensor(self._task)} if self._waits else {}
        return self.stored.state() | inside

    def restore(self, state: dict[str, Tensor]) -> None:
        self.stored.restore(state, device=self._device)
        # Only a checkpoint from inside an announced task says which one.
        self._waits = "task" in state
        self._task = int(state["task"]) if self._waits else 0


def batch_of(columns: dict[str, Tensor]) -> Batch:
    """Return stored rows as a batch."""
    return Batch(columns["tokens"], columns["targets"], columns["segments"], columns.get("outputs"))


def columns_of(batch: Batch, rows: Ints) -> dict[str, Tensor]:
    """Return what is stored of some rows."""
    return {name: x for name, x in zip(COLUMNS, batch.pick(rows), strict=True) if x is not None}


def _check_one_target(batch: Batch) -> None:
    scored = (batch.targets_BT != IGNORE).sum(1)
    if not bool((scored == 1).all()):
        raise ValueError(
            f"strategy.balance=class: rows of this stream have up to {int(scored.max())} scored targets, and only a "
            "row with one has a class; use balance=task or reservoir"
        )
