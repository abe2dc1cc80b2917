"""`lora_task`: frozen slow weights with low-rank updates, one for the whole stream or one for each task.

    o = W0 x + (alpha / r) B_t A_t x        W0 frozen; see lora.py

LoRA (Hu et al. 2021, arXiv 2106.09685). With per=task nothing learned is ever overwritten, and task t is READ WITH ITS
OWN UPDATE: the test says which task it is, which other strategies are not told. The base, and tasks that were not yet
learned, are read with W0 alone. Memory: r (I + O) numbers a layer, with per=task times the tasks; cost: two thin
products a layer a step, less the gradients of W0. Only the memory of per=task grows with the number of tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.lora import LowRankUpdates
from ttt.strategies.shared import check_choice, check_tasks
from ttt.stream import Stream

PER = ("stream", "task")
# A and B of one layer.
Pair = tuple[Tensor, Tensor]


class LoraTask(LowRankUpdates):
    """Arguments are explained in conf/strategy/lora_task.yaml."""

    def __init__(self, *, name: str, per: str, rank: int, alpha: float, layers: list[str] | None) -> None:
        super().__init__(name=name, rank=rank, alpha=alpha, layers=layers)
        check_choice(per, argument="per", allowed=PER)
        self._is_each = self.renews = per == "task"
        # The updates of tasks that were learned, layer by layer; and the task that is being learned.
        self._kept: dict[int | None, list[Pair]] = {}
        self._now: int | None = None

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        if self._is_each:
            check_tasks(stream, name=self.name)

    @torch.no_grad()
    def begin_task(self, engine: Engine, index: int) -> None:
        if not self._is_each:
            return
        self._now = self._stream.phases[index].task
        if self._now in self._kept:
            self._put(self._kept[self._now])
            self.forget(engine)
        else:
            self.start(engine, index)

    def end_task(self, engine: Engine, index: int) -> None:
        if self._now is not None:
            self._kept[self._now] = self._copies()

    @contextmanager
    def evaluating(self, task: int | None) -> Iterator[None]:
        if not self._is_each or (task is not None and task == self._now):
            yield
            return
        mine = self._copies()
        # Put in place: whoever looks at gradients here finds those of what is read.
        if task in self._kept:
            self._put(self._kept[task])
        else:
            self._silence()
        try:
            yield
        finally:
            self._put(mine)

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
        return {
            f"{task}.{i}.{name}": x
            for task, pairs in self._kept.items()
            for i, pair in enumerate(pairs)
            for name, x in zip("ab", pair, strict=True)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        device = self.weights[0].device
        self._kept = {
            task: [
                (state[f"{task}.{i}.a"].to(device), state[f"{task}.{i}.b"].to(device)) for i in range(len(self.updates))
            ]
            for task in sorted({int(name.split(".")[0]) for name in state})
        }
