"""`lora_task`: frozen slow weights with low-rank updates, one for the whole stream or one per task.

    o = W0 x + (alpha / r) B_t A_t x        W0 frozen; see lora.py

LoRA (Hu et al. 2021, arXiv 2106.09685). With per=task nothing learned is ever overwritten, and task
t is READ WITH ITS OWN UPDATE: the test says which task it is, which no other strategy is told. The
base, and tasks that were not yet learned, are read with W0 alone. Memory: r (I + O) numbers a
layer, with per=task times the tasks. Cost: two thin products a layer a step, less the gradients of
W0. Only the memory of per=task grows with the number of tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.lora import Alpha, LowRankUpdates
from ttt.strategies.shared import AtLeastOne, check_tasks
from ttt.stream import Stream

# A and B of one layer.
Pair = tuple[Tensor, Tensor]


class LoraTask(LowRankUpdates):
    """Arguments are explained in conf/strategy/lora_task.yaml."""

    def __init__(
        self,
        *,
        name: str,
        per: Literal["stream", "task"],
        rank: AtLeastOne,
        alpha: Alpha,
        layers: list[str] | None,
    ) -> None:
        super().__init__(name=name, rank=rank, alpha=alpha, layers=layers)
        self._is_each = self.renews = per == "task"
        # The updates of tasks learned so far, layer by layer, and the task that is being learned.
        self._learned: dict[int | None, list[Pair]] = {}
        self._now: int | None = None

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        if self._is_each:
            check_tasks(stream, name=self.name)

    @torch.no_grad()
    def begin_task(self, engine: Engine, index: int) -> None:
        if not self._is_each:
            return
        self._now = self._stream.phases[index].task
        # A task that comes back goes on from the update that it had.
        if self._now in self._learned:
            self._put(self._learned[self._now])
            self.forget(engine)
        else:
            self.start(engine, index)

    def end_task(self, engine: Engine, index: int) -> None:
        if self._now is not None:
            self._learned[self._now] = self._copies()

    @contextmanager
    def evaluating(self, task: int | None) -> Iterator[None]:
        # The update of the task that is being learned is in place already.
        if not self._is_each or (task is not None and task == self._now):
            yield
            return
        before = self._copies()
        # Copied in place: the parameters stay the same objects for whoever looks at gradients here.
        if task in self._learned:
            self._put(self._learned[task])
        else:
            self._silence()
        try:
            yield
        finally:
            self._put(before)

    def _copies(self) -> list[Pair]:
        return [(update.a_RI.detach().clone(), update.b_OR.detach().clone()) for update in self.updates]

    @torch.no_grad()
    def _put(self, pairs: list[Pair]) -> None:
        for update, (a_RI, b_OR) in zip(self.updates, pairs, strict=True):
            update.a_RI.copy_(a_RI)
            update.b_OR.copy_(b_OR)

    @torch.no_grad()
    def _silence(self) -> None:
        for update in self.updates:
            update.b_OR.zero_()

    def state(self) -> dict[str, Tensor]:
        now = {} if self._now is None else {"now": torch.tensor(self._now)}
        return now | {
            f"{task}.{i}.{name}": x
            for task, pairs in self._learned.items()
            for i, pair in enumerate(pairs)
            for name, x in zip("ab", pair, strict=True)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        # Names are TASK.LAYER.a and TASK.LAYER.b; `now` stands beside them.
        device = self.weights[0].device
        self._now = int(state["now"]) if "now" in state else None
        tasks = sorted({int(name.split(".")[0]) for name in state if name != "now"})
        self._learned = {
            task: [
                (state[f"{task}.{i}.a"].to(device), state[f"{task}.{i}.b"].to(device)) for i in range(len(self.updates))
            ]
            for task in tasks
        }
