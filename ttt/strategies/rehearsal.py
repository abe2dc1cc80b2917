"""What replay, der and agem share: a memory of rows, filled as they come, from which rows of earlier tasks are drawn.

Where the stream announces no tasks, rows are drawn from all that is stored.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.strategies.reservoir import Memory, key_of
from ttt.strategies.shared import check_choice, check_least, check_tasks
from ttt.stream import IGNORE, Batch, Ints, Stream, batch_rows

BALANCES = ("reservoir", "task", "class")
COLUMNS = ("tokens", "targets", "segments", "outputs")
# A phase later than all others.
END = np.iinfo(np.int64).max


class Rehearsal(Strategy):
    """Arguments are explained in conf/strategy/replay.yaml."""

    def __init__(self, *, name: str, size: int, rows: int | None, balance: str) -> None:
        super().__init__(name=name)
        check_least(size, argument="size", least=1)
        if rows is not None:
            check_least(rows, argument="rows", least=1)
        check_choice(balance, argument="balance", allowed=BALANCES)
        self._rows, self._balance, self._size = rows, balance, size
        self.stored = Memory(size=size, groups=1, key=0)
        self._phase, self._task, self._before = 0, 0, END
        self._device = torch.device("cpu")

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        if self._balance == "task":
            check_tasks(stream, name=f"{self.name} strategy.balance=task")
        if self._balance == "class":
            _check_examples(stream.phases[0].batch(0))
        rows = self._rows or batch_rows(stream.phases)
        if rows % parts:
            raise ValueError(f"strategy.rows={rows}: must be a multiple of {parts}, for devices and parts to share")

    def begin(self, engine: Engine, stream: Stream) -> None:
        self._rows = self._rows or batch_rows(stream.phases)
        groups = {"reservoir": 1, "task": len(stream.tasks), "class": stream.vocab_size}
        self._stream, self._device = stream, engine.fabric.device
        self.stored = Memory(size=self._size, groups=groups[self._balance], key=key_of(stream))

    def begin_task(self, engine: Engine, index: int) -> None:
        self._phase = self._before = index
        self._task = self._stream.phases[index].task

    def drawn(self) -> Batch | None:
        """Rows to read again; None while nothing old is stored."""
        columns = self.drawn_columns()
        return None if columns is None else batch_of(columns)

    def drawn_columns(self) -> dict[str, Tensor] | None:
        places = self.stored.draw(self._rows or 1, before=self._before)
        return None if places is None else self.stored.pick(places)

    def chosen(self, batch: Batch) -> tuple[Ints, Ints]:
        """Which rows of `batch` are kept, and where."""
        group: Ints | int = self._task if self._balance == "task" else 0
        if self._balance == "class":
            # One scored target a row.
            group = batch.targets_BT.amax(1).cpu().numpy()
        return self.stored.choose(group, rows=len(batch.tokens_BT), phase=self._phase)

    def keep(self, batch: Batch) -> None:
        rows, places = self.chosen(batch)
        if len(rows):
            self.stored.put(columns_of(batch, rows), places)

    def state(self) -> dict[str, Tensor]:
        return self.stored.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        self.stored.restore(state, device=self._device)


def batch_of(columns: dict[str, Tensor]) -> Batch:
    return Batch(columns["tokens"], columns["targets"], columns["segments"], columns.get("outputs"))


def columns_of(batch: Batch, rows: Ints) -> dict[str, Tensor]:
    """What is stored of some rows."""
    return {name: x for name, x in zip(COLUMNS, batch.pick(rows), strict=True) if x is not None}


def _check_examples(batch: Batch) -> None:
    scored = (batch.targets_BT != IGNORE).sum(1)
    if not bool((scored == 1).all()):
        raise ValueError(
            f"strategy.balance=class: rows of this stream have up to {int(scored.max())} scored targets, and a class "
            "is one; use balance=task or reservoir"
        )
