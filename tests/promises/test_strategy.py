"""Promises of strategies catch one that does nothing, forgets its state, or hides its memory."""

from __future__ import annotations

import pytest
import torch
from strategy_jobs import MLP, config_of

from ttt.promises.runs import TinyRun
from ttt.promises.strategy import StrategyCase, acts, checks_only, memory_counted, phases_stay, resumes_with_state
from ttt.run import assemble
from ttt.strategies.l2_init import L2Init
from ttt.strategies.naive import Naive


class Idle(Naive):
    """Overrides a point, and changes nothing there."""

    def gradients(self, engine):
        pass


class Forgetful(L2Init):
    """Pulls towards a place that drifts, which no checkpoint holds."""

    def begin(self, engine, stream):
        super().begin(engine, stream)
        self.offset = 0.0

    def stepped(self, engine):
        self.offset += 0.01
        with torch.no_grad():
            engine.order[0].add_(self.offset)


class Hoarder(Naive):
    """Keeps a batch of each task, and says nothing of it."""

    def begin(self, engine, stream):
        self.batches = []

    def end_task(self, engine, index):
        self.batches.append(torch.zeros(1000))


class Rash(Naive):
    """Moves weights before the stream."""

    def begin(self, engine, stream):
        with torch.no_grad():
            engine.order[0].add_(1.0)


class Short(Naive):
    """Drops a phase."""

    def phases(self, stream):
        return stream.phases[:-1]


class Swapped(Naive):
    """Teaches the tasks in another order."""

    def phases(self, stream):
        return stream.phases[::-1]


def case_of(monkeypatch: pytest.MonkeyPatch, strategy: type) -> StrategyCase:
    """A tiny run whose strategy is of this class, in place of the one that its config names."""
    build = assemble.build_strategy

    def built(config, trusted):
        arguments = {"coefficient": 0.1} if issubclass(strategy, L2Init) else {}
        is_naive = config["strategy"]["name"] == "naive"
        return build(config, trusted) if is_naive else strategy(name="mine", **arguments)

    monkeypatch.setattr(assemble, "build_strategy", built)
    return StrategyCase(TinyRun(config_of(*MLP, "strategy=l2_init")))


BROKEN = [
    (Idle, acts, "naive"),
    (Forgetful, resumes_with_state, "after a stop"),
    (Hoarder, memory_counted, "bytes"),
    (Rash, checks_only, "begin"),
    (Short, phases_stay, "phases"),
    (Swapped, phases_stay, "teaches task 1, with the strategy 3"),
]


@pytest.mark.parametrize(("strategy", "promise", "where"), BROKEN)
def test_a_broken_promise_shows_an_example(strategy, promise, where, monkeypatch):
    ruling = promise(case_of(monkeypatch, strategy))
    assert ruling.holds is False
    assert where in ruling.why


def test_nothing_is_said_of_a_strategy_without_a_point():
    assert acts(StrategyCase(TinyRun(config_of(*MLP, "strategy=naive")))).holds is None
