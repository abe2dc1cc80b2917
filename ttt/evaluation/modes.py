"""When each mode is measured, and what slow weights and fast state a task is read with.

slow       state initial, writes off
fast       state initial, written while reading each sequence
           (of prompts: the prompt in use, on the base's weights)
carried    the same, from the state that the stream left
           (of prompts: the prompt in use, on learned weights)
archived   learned weights behind the prompt that was best when the task ended
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor

from ttt.adapters.base import FastState, Mode
from ttt.adapters.evolving import Evolving
from ttt.learner import Engine, Learner
from ttt.objectives.base import Objective
from ttt.objectives.reward import Reward


def modes(learner: Learner, objective: Objective) -> tuple[Mode, ...]:
    """The modes in which this learner is measured.

    `carried` exists only where the stream carries a state from batch to batch, `archived` where
    that state is a prompt. A policy without prompts is used as it is: its `carried` is `slow`.
    """
    if learner.adapter.reset == "sequence" and objective.is_plain:
        return ("slow", "fast")
    archived: tuple[Mode, ...] = ("archived",) if isinstance(learner.adapter, Evolving) else ()
    return ("slow", "fast", "carried", *archived)


def reads_base(learner: Learner, objective: Objective, mode: Mode) -> bool:
    """Does this mode read with the base's weights?

    With prompts, `fast` is what they are worth without learning.
    """
    return mode == "fast" and isinstance(learner.adapter, Evolving) and isinstance(objective, Reward)


@contextmanager
def starting(engine: Engine, objective: Objective, mode: Mode) -> Iterator[Callable[[int | None], FastState]]:
    """Give the model the slow weights of `mode` while open; yield the state from which each task is
    read.

    Prompts do not change while they are read, so their modes differ in weights and prompt, not in
    writes.
    """
    learner, state = engine.learner, engine.learner.adapter.initial()
    if isinstance(learner.adapter, Evolving) and isinstance(objective, Reward):
        prompts = objective.archive
        if mode == "archived":
            holding = learner.adapter.holding
            yield lambda task: holding(prompts[task]) if task in prompts else state
            return
        base = reads_base(learner, objective, mode)
        with borrowed_weights(learner, objective.base) if base else nullcontext():
            yield lambda task: state if mode == "slow" else learner.fast
        return
    if mode == "carried":
        state = engine.shared_fast()
    yield lambda task: state


@contextmanager
def borrowed_weights(learner: Learner, tensors: dict[str, Tensor]) -> Iterator[None]:
    """Let the model compute with these weights while open; its own come back untouched."""
    parameters = dict(learner.model.named_parameters())
    before = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, tensor in tensors.items():
            parameters[name].data = tensor
        yield
    finally:
        for name, data in before.items():
            parameters[name].data = data
