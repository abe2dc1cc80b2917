"""`lwf`: on the rows of the present task, old outputs stay what they were when the last task ended.

    loss = data + c * sum_h T^2 KL(softmax(z_old / T) || softmax(z / T))   h: heads of earlier tasks

Learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282). The scenario decides which
outputs are old: the outputs of each earlier task are a head (task); all labels of earlier tasks are
one (class); all outputs that compete are one (domain). The old model reads rows from the initial
fast state, as a new sequence.
Memory: one number a weight (the weights of the previous task), and a flag per output and head. Cost
of a step: one more forward pass; with the number of tasks grow only the softmaxes of the task
scenario, one per head.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.shared import Coefficient, check_tasks
from ttt.strategies.teacher import Distilling, Weights, teacher_weights, weights_of
from ttt.stream import IGNORE, Batch, Stream


class Lwf(Distilling):
    """Arguments are explained in conf/strategy/lwf.yaml."""

    def __init__(self, *, name: str, coefficient: Coefficient, temperature: Annotated[float, Gt(0)]) -> None:
        super().__init__(name=name, coefficient=coefficient, temperature=temperature)
        self._stream: Stream | None = None
        self._old: Weights = {}
        # Outputs of earlier tasks, a head each or all in one. None: all outputs.
        self._heads_HV: Tensor | None = None
        # Labels of the present task, as far as they were seen.
        self._present_V = torch.zeros(0)

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        check_tasks(stream, name=self.name)

    def begin(self, engine: Engine, stream: Stream) -> None:
        self._stream, self._device = stream, engine.fabric.device
        self._present_V = torch.zeros(stream.vocab_size, dtype=torch.bool, device=self._device)

    def extra(self, learner: Learner, batch: Batch, logits_BTV: Tensor, *, own: int) -> Tensor | None:
        batch = batch.rows(0, own)
        scored_BT = batch.targets_BT != IGNORE
        if self._has_classes:
            # Collected as they come: a learner may not look ahead in its task.
            self._present_V[batch.targets_BT[scored_BT]] = True
        if not self._old:
            return None
        with teacher_weights(learner.model, self._old):
            old_BTV, _ = learner(batch, learner.adapter.initial())
        return self.penalised(old_BTV[scored_BT], logits_BTV[:own][scored_BT], heads_HV=self._heads_HV)

    def end_task(self, engine: Engine, index: int) -> None:
        self._old = weights_of(engine.learner.model)
        if self._has_classes:
            # The labels seen in this task are old ones from here on.
            old_HV, self._present_V = self._present_V[None], torch.zeros_like(self._present_V)
        else:
            assert self._stream is not None
            outputs_BV = self._stream.tasks[self._stream.phases[index].task].evaluation().outputs_BV
            # Where all outputs compete (domain), the old
            # ones are all of them: that is what None means.
            if outputs_BV is None:
                return
            # All rows of a task have the same outputs.
            old_HV = outputs_BV[:1].to(self._device)
        if self._heads_HV is not None:
            old_HV = torch.cat([self._heads_HV, old_HV])
        # Unique: tasks that share their outputs (domain) share a head, which must count once.
        self._heads_HV = old_HV.any(0, keepdim=True) if self._has_classes else old_HV.unique(dim=0)

    @property
    def _has_classes(self) -> bool:
        """Do the labels of all tasks compete?"""
        return self._stream is not None and self._stream.scenario == "class"

    def state(self) -> dict[str, Tensor]:
        heads = {} if self._heads_HV is None else {"heads": self._heads_HV}
        # Labels of the present task: none between tasks.
        present = {"present": self._present_V} if bool(self._present_V.any()) else {}
        return heads | present | {f"old.{name}": x for name, x in self._old.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        tensors = {name: x.to(self._device) for name, x in state.items()}
        self._heads_HV = tensors.pop("heads", None)
        self._present_V = tensors.pop("present", torch.zeros_like(self._present_V))
        self._old = {name.removeprefix("old."): x for name, x in tensors.items()}
