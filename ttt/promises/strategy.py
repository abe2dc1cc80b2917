"""What a strategy promises: it acts, it goes on after a stop, and its memory is counted.

weights of a run with it != weights of the same run with naive
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ttt.learner import slow_hash
from ttt.promises.ruling import HOLDS, Ruling, broken, not_given
from ttt.promises.runs import NAIVE, TinyRun, engine_of, goes_on, stream_through
from ttt.results.events import Evaluated, Event
from ttt.run.assemble import Assembly
from ttt.strategies.base import Strategy
from ttt.strategies.both import Both

# Bytes by which counts and masks may grow without being a memory.
SCRATCH = 1024
POINTS = (
    "phases",
    "attach",
    "begin",
    "begin_task",
    "memory",
    "extra",
    "gradients",
    "stepped",
    "end_task",
    "evaluating",
)


class Learned(NamedTuple):
    """A run after its stream: the slow weights that it left, and `uncounted` after each task.

    `uncounted` are the bytes of tensors that the strategy holds beyond those in its state.
    """

    assembly: Assembly
    weights: Mapping[str, Tensor]
    uncounted: Sequence[int]


@dataclass(frozen=True)
class StrategyCase:
    """A tiny run with the strategy."""

    run: TinyRun

    @cached_property
    def learned(self) -> Learned:
        return learned_run(self.run.assembly())


def learned_run(assembly: Assembly) -> Learned:
    """Learn the whole stream, and weigh the strategy after each task."""
    sizes: list[int] = []

    def weigh(event: Event) -> None:
        # Row 0 is measured before any task.
        if isinstance(event, Evaluated) and event.row:
            sizes.append(uncounted(assembly.recipe.strategy, assembly.learner.model))

    with tempfile.TemporaryDirectory() as folder:
        tensors = stream_through(assembly, Path(folder), observers=[weigh]).tensors
    return Learned(assembly, tensors["slow"], sizes)


def acts(case: StrategyCase) -> Ruling:
    """It learns other weights than no protection does."""
    strategy, weights = case.learned.assembly.recipe.strategy, case.learned.weights
    points = POINTS if isinstance(strategy, Both) else [point for point in POINTS if strategy.acts_at(point)]
    if not points and strategy.learns:
        return not_given("it overrides no point")
    # The same run but for the strategy: data, start and chance are equal.
    naive = learned_run(case.run.assembly(NAIVE)).weights
    if naive.keys() != weights.keys() or any(not torch.equal(x, weights[name]) for name, x in naive.items()):
        return HOLDS
    return broken(
        f"all weights equal those of strategy=naive after the stream, although it overrides {', '.join(points)}"
    )


def resumes_with_state(case: StrategyCase) -> Ruling:
    """Its state holds all that it needs to go on after a stop."""
    return goes_on(case.run.assembly)


def memory_counted(case: StrategyCase) -> Ruling:
    """Its state, whose size is reported as its memory, holds all tensors that grow with tasks."""
    first, last = case.learned.uncounted[0], case.learned.uncounted[-1]
    # A first task may leave a tensor that stays, such as an anchor: only growth is a memory.
    if last <= first + SCRATCH:
        return HOLDS
    return broken(f"tensors outside its state grow from {first:,} bytes after task 1 to {last:,}")


def uncounted(strategy: Strategy, model: nn.Module) -> int:
    """Bytes of the tensors that a strategy holds beyond those in its state and in the model."""
    # By memory: a tensor that two attributes share counts once.
    tensors = {x.untyped_storage().data_ptr(): x for x in _tensors(vars(strategy).values())}
    for parameter in model.parameters():
        tensors.pop(parameter.untyped_storage().data_ptr(), None)
    # State is made of copies in part, so sizes are compared and not tensors.
    return _bytes(tensors.values()) - _bytes(strategy.state().values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    """The tensors in attributes of a strategy, at any depth."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from _tensors(value.values())
        elif isinstance(value, list | tuple | set):
            yield from _tensors(value)
        elif isinstance(value, nn.Module):
            yield from value.state_dict(keep_vars=True).values()
        elif isinstance(value, Strategy):
            yield from _tensors(vars(value).values())


def checks_only(case: StrategyCase) -> Ruling:
    """`check` and `begin` move no weight, unless the strategy says that it replaces them."""
    assembly = case.run.assembly()
    strategy, learner = assembly.recipe.strategy, assembly.learner
    before = slow_hash(learner.model)
    strategy.check(learner, assembly.stream, parts=1)
    if slow_hash(learner.model) != before:
        return broken("check moves a slow weight")
    # Building the engine calls `begin`.
    engine_of(assembly)
    if not (strategy.replaces or strategy.renews) and slow_hash(learner.model) != before:
        return broken("begin moves a slow weight, and `replaces` is False")
    return HOLDS


def phases_stay(case: StrategyCase) -> Ruling:
    """It changes what a phase trains on, not how many there are, nor which task each teaches."""
    naive, stream = case.run.assembly(NAIVE).stream, case.run.plain.stream
    if len(naive.phases) != len(stream.phases):
        return broken(f"the stream has {len(naive.phases)} phases, and with the strategy {len(stream.phases)}")
    for before, after in zip(naive.phases, stream.phases, strict=True):
        if before.task != after.task:
            return broken(f"phase {before.name!r} teaches task {before.task + 1}, with the strategy {after.task + 1}")
    return HOLDS


PROMISES = {
    "it learns other weights than naive": acts,
    "a run goes on after a stop to the bit": resumes_with_state,
    "its state holds all its memory": memory_counted,
    "checking and beginning move no weight": checks_only,
    "the stream keeps its phases": phases_stay,
}
