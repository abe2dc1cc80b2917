"""What a strategy is: named points where the stream, the learner and the inner loop call it, in plain sight.

    phases        once        what is trained on: all tasks at once, say
    attach        once        new parameters in the model, before the optimizer is made
    check         once        refuse what the strategy cannot serve, before anything is trained
    begin         once        the base's weights are in, nothing was learned yet
    begin_task    each task   before its first step
    memory        each batch  rows to train on beside it
    extra         each batch  a term of the loss that needs outputs
    gradients     each step   after the backward pass, before clipping: penalties add their gradient here
    stepped       each step   after the optimizer moved the weights
    end_task      each task   after its last step, before its evaluation

A penalty of the parameters alone adds its gradient instead of its value: the same update for every optimizer,
whatever devices and parts a batch is cut into, and `loss` stays that of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from torch import Tensor, nn

from ttt.learner import Engine, Learner
from ttt.stream import Batch, Phase, Stream


class Strategy:
    """Protects slow weights across tasks, or keeps them plastic. Every point does nothing unless overridden.

    Tasks are announced ones: a stream without boundaries calls neither begin_task nor end_task.
    """

    # `one`: needs the whole batch on one device; `ddp`: whole parameters on each; `any`: also cut ones.
    runs_on: Literal["one", "ddp", "any"] = "one"
    # Are slow weights learned at all?
    learns = True
    # Is each task learned as if it were the first one?
    is_fresh = False
    # Does it put other weights in place of learned ones, when it begins or at the end of a task? Then it comes first.
    replaces = False
    # Are the parameters of a task new ones?
    renews = False
    # Does it hold parameters near values that they had?
    anchors = False
    # Does it work with the likelihood of right answers? objective=reward has rewards only.
    needs_likelihood = False
    # Does it only act when the optimizer takes a step?
    needs_steps = False

    def __init__(self, *, name: str) -> None:
        self.name = name

    def acts_at(self, *points: str) -> bool:
        """Does it do something at one of these points?"""
        return any(getattr(type(self), point) is not getattr(Strategy, point) for point in points)

    def phases(self, stream: Stream) -> Sequence[Phase]:
        return stream.phases

    def attach(self, model: nn.Module) -> None:
        """Raises ValueError for a model that the strategy cannot serve."""

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        """Raises ValueError for a model, adapter or stream that the strategy cannot serve. Changes nothing.

        `parts`: into how many parts of equally many rows devices and accumulation cut a batch.
        """

    def begin(self, engine: Engine, stream: Stream) -> None:
        """Called once, when the base's weights are in and nothing was learned yet."""

    def begin_task(self, engine: Engine, index: int) -> None:
        """`index`: of the phase, from 0."""

    def memory(self, batch: Batch, *, step: int) -> Batch | None:
        """Rows of earlier tasks; they are read from the initial fast state, and leave none behind."""
        return None

    def extra(self, learner: Learner, batch: Batch, logits_BTV: Tensor, *, own: int) -> Tensor | None:
        """In the unit of the loss (nats per scored token). The first `own` rows of `batch` are the task's, the others
        from `memory`; logits of outputs that do not compete are not masked."""
        return None

    def gradients(self, engine: Engine) -> None: ...

    def stepped(self, engine: Engine) -> None: ...

    def end_task(self, engine: Engine, index: int) -> None: ...

    def evaluating(self, task: int | None) -> AbstractContextManager[None]:
        """Around the evaluation of a task (from 0; None: the base): for strategies that are told which one it is."""
        return nullcontext()

    def terms(self) -> dict[str, float]:
        """Values to watch, by name: the penalty as it stood at the last step. One that is not finite stops the run."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What must be in a checkpoint for training to go on as if never stopped; its size is the strategy's memory."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`, after `begin`."""
