"""What a strategy is: the points at which the stream, the learner and the inner loop call it.

    phases        once        change what is trained on: all tasks at once, say
    attach        once        add parameters to the model, before the optimizer is made
    check         once        refuse what the strategy cannot serve, before anything is trained
    begin         once        the base's weights are in, nothing has been learned yet
    begin_task    each task   before its first step
    memory        each batch  return rows to train on beside it
    extra         each batch  return a term of the loss that needs outputs
    gradients     each step   after the backward pass, before clipping: add gradients of penalties
    stepped       each step   after the optimizer has moved the weights
    end_task      each task   after its last step, before its evaluation

A penalty of the parameters alone adds its gradient instead of its value. The update is the same for
every optimizer and however a batch is split over devices, and `loss` stays that of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from torch import Tensor, nn

from ttt.learner import Engine, Learner
from ttt.stream import Batch, Phase, Stream


class Strategy:
    """Protects slow weights across tasks, or keeps them plastic.

    A point does nothing unless it is overridden. Tasks are announced ones: where a stream has no
    boundaries, neither begin_task nor end_task is called.
    """

    # `one` needs the whole batch on one device, `ddp` whole parameters on each, `any` neither.
    runs_on: Literal["one", "ddp", "any"] = "one"
    # Are slow weights learned at all?
    learns = True
    # Is each task learned as if it were the first one?
    is_fresh = False
    # Does it overwrite learned weights at `begin` or `end_task`? There it then comes first of two.
    replaces = False
    # Does each task get new parameters?
    renews = False
    # Does it hold parameters near values that they had?
    anchors = False
    # Does it work with the likelihood of right answers? objective=reward has rewards only.
    needs_likelihood = False
    # Does it act only when the optimizer takes a step?
    needs_steps = False

    def __init__(self, *, name: str) -> None:
        self.name = name

    def acts_at(self, *points: str) -> bool:
        """Does it do something at one of these points?"""
        return any(getattr(type(self), point) is not getattr(Strategy, point) for point in points)

    def phases(self, stream: Stream) -> Sequence[Phase]:
        """Return the phases to train on, as many as the stream has."""
        return stream.phases

    def attach(self, model: nn.Module) -> None:
        """Add parameters to the model. Raise ValueError for a model that cannot be served."""

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        """Raise ValueError for a model, adapter or stream that cannot be served; change nothing.

        `parts`: the number of equal parts into which devices and accumulation cut a batch.
        """

    def begin(self, engine: Engine, stream: Stream) -> None:
        """Prepare for the stream: the base's weights are in, and nothing has been learned yet."""

    def begin_task(self, engine: Engine, index: int) -> None:
        """Prepare for a task; `index` is that of its phase, from 0."""

    def memory(self, batch: Batch, *, step: int) -> Batch | None:
        """Return rows of earlier tasks to train on beside `batch`.

        They are read from the initial fast state, and the state that they leave is dropped.
        """
        return None

    def extra(self, learner: Learner, batch: Batch, logits_BTV: Tensor, *, own: int) -> Tensor | None:
        """Return a term of the loss, in nats per scored token.

        The first `own` rows of `batch` are the task's, the others come from `memory`. Logits of
        outputs that do not compete are not masked.
        """
        return None

    @property
    def reads_logits(self) -> bool:
        """Does `extra` look at logits? If not, only those of scored tokens are computed."""
        return type(self).extra is not Strategy.extra

    def gradients(self, engine: Engine) -> None:
        """Change the gradients before they are clipped."""

    def stepped(self, engine: Engine) -> None:
        """Act after a step of the slow weights."""

    def end_task(self, engine: Engine, index: int) -> None:
        """Act on what the task has left; `index` is that of its phase, from 0."""

    def evaluating(self, task: int | None) -> AbstractContextManager[None]:
        """Stay open while a task is evaluated (None: the base).

        Only strategies that are allowed to know the task at test time override this.
        """
        return nullcontext()

    def terms(self) -> dict[str, float]:
        """Return values to watch, by name, as of the last step.

        A value that is not finite stops the run.
        """
        return {}

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs for training to go on as if it had never stopped.

        The size of this state is reported as the strategy's memory.
        """
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a state that `state` returned; called after `begin`."""
