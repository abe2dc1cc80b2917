"""Strategies over a bare torch loop on permuted digits.

Both train an MLP 64-256-256-10 by SGD with rate 0.05, in batches of 32, for 10 passes a task. The
bare loop shuffles each pass, slices tensors and reports nothing, as without a harness.
Shapes: N examples, X inputs of one example, V classes, B batch, T time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.evaluation.evaluate import evaluate
from ttt.learner import Engine
from ttt.run.assemble import Assembly
from ttt.run.loop import reset_for_task
from ttt.stream import Batch
from ttt.training.finite import NonFiniteError
from ttt.training.train import train

TASKS, PASSES, ROWS = 10, 10, 32
WIDTHS, CLASSES = (64, 256, 256), 10
RATE = 0.05


def _job() -> tuple[str, ...]:
    """Return the overrides of the stream that both loops learn."""
    return (
        "model=mlp",
        "adapter=none",
        "base=none",
        "source=digits",
        "source.eval_share=0.2",
        "task=permuted-sequence",
        "task.permute=positions",
        f"task.num_tasks={TASKS}",
        f"task.batch_size={ROWS}",
        f"task.steps_per_task={PASSES}-pass",
        "task.eval_sequences=all",
        "optimizer=sgd",
        f"optimizer.lr={RATE}",
        "optimizer.clip=null",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
        f"trainer.threads={torch.get_num_threads()}",
    )


def measure_strategies(strategies: list[str], *, rounds: int) -> Iterator[Row]:
    """Yield one row per strategy: CPU time of a task over the bare loop's and over naive's.

    The second task is the first with something to protect; the last shows growth over the stream.
    `over bare again`: a bare loop that reads as many old rows beside each batch, as replay does.
    `between`: milliseconds that the end of the task before and the begin of the last one take.
    """
    for name in strategies:
        try:
            yield _measure_strategy(name, rounds=rounds)
        # Some strategies need another model or stream than this job, and some diverge on it.
        except (ValueError, NonFiniteError) as error:
            yield {"strategy": name, "why not": str(error)}


def _measure_strategy(name: str, *, rounds: int) -> Row:
    ours, naive = Side.of(name), Side.of("naive")
    bare = BareMlp(ours.assembly)
    sides = {"bare": bare.train, "bare again": bare.train_again, "naive": naive.learn, "ours": ours.learn}
    # Naive stays at the first task: what it costs does not depend on the task.
    ours.go_to(1)
    early = paired(sides, rounds=rounds)
    ours.go_to(TASKS - 1)
    late = paired(sides, rounds=rounds)
    evaluations = paired({"bare": bare.evaluate, "ours": ours.evaluate}, rounds=rounds)
    second, last = (ratio(seconds["ours"], seconds["naive"]).median for seconds in (early, late))
    return {
        "strategy": name,
        "bare us": 1e6 * statistics.median(late["bare"]) / ours.steps,
        "over bare": ratio(early["ours"], early["bare"]).median,
        "over bare again": ratio(early["ours"], early["bare again"]).median,
        "over naive": second,
        "last task": last,
        "growth": last / second,
        "between ms": 1e3 * ours.between,
        "evaluation": ratio(evaluations["ours"], evaluations["bare"]).median,
    }


class BareMlp:
    """A network, tensors, and two loops."""

    def __init__(self, assembly: Assembly) -> None:
        hidden = [part for a, b in pairwise(WIDTHS) for part in (nn.Linear(a, b), nn.ReLU())]
        self._model = nn.Sequential(*hidden, nn.Linear(WIDTHS[-1], CLASSES))
        # Fused, as the harness has it: the loops should differ in nothing but the harness.
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=RATE, fused=True)
        first, steps = assembly.stream.tasks[0], assembly.stream.phases[0].steps
        # A pass, rounded up to whole batches: then both loops take the same number of steps.
        batches = [first.batch(step) for step in range(-(-steps // PASSES))]
        # The examples of one pass lie in memory, and the bare loop shuffles them by itself.
        self._x_NX = torch.cat([batch.tokens_BT for batch in batches]).flatten(0, 1)
        self._y_N = torch.cat([batch.targets_BT for batch in batches]).flatten()
        evaluations = [task.evaluation() for task in assembly.stream.tasks]
        self._evaluations = [(x.tokens_BT.flatten(0, 1), x.targets_BT.flatten()) for x in evaluations]

    def train(self) -> None:
        """Take all passes over the first task."""
        for x_BX, y_B in self._batches():
            self._learn(x_BX, y_B)

    def train_again(self) -> None:
        """The same, with as many rows from a memory beside each batch."""
        for x_BX, y_B in self._batches():
            old_B = torch.randint(len(self._x_NX), (len(x_BX),))
            self._learn(torch.cat([x_BX, self._x_NX[old_B]]), torch.cat([y_B, self._y_N[old_B]]))

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(PASSES):
            order = torch.randperm(len(self._x_NX))
            x_NX, y_N = self._x_NX[order], self._y_N[order]
            yield from zip(x_NX.split(ROWS), y_N.split(ROWS), strict=True)

    def _learn(self, x_BX: torch.Tensor, y_B: torch.Tensor) -> None:
        F.cross_entropy(self._model(x_BX), y_B).backward()
        self._optimizer.step()
        self._optimizer.zero_grad()

    @torch.no_grad()
    def evaluate(self) -> None:
        """Measure loss and accuracy on every task."""
        for x_NX, y_N in self._evaluations:
            scores_NV = self._model(x_NX)
            hits = (scores_NV.argmax(-1) == y_N).float().mean()
            # The harness reads numbers too, which waits for the device.
            self.scores = float(F.cross_entropy(scores_NV, y_N)), float(hits)


@dataclass
class Side:
    """A learner somewhere in the stream; its last change of tasks took `between` seconds."""

    assembly: Assembly
    engine: Engine
    index: int = 0
    between: float = 0.0

    @classmethod
    def of(cls, strategy: str) -> Side:
        """Return a learner before the first task, or raise ValueError if it cannot run."""
        assembly = assembly_of(*_job(), f"strategy={strategy}")
        return cls(assembly, assembly.engine(assembly.settings.fabric(), None))

    @property
    def steps(self) -> int:
        """The optimizer steps of the present task."""
        return self.assembly.stream.phases[self.index].steps

    def learn(self) -> None:
        """Train on the present task once more."""
        phase, every = self.assembly.stream.phases[self.index], self.assembly.settings.report_every
        recipe = self.assembly.recipe
        for _ in train(self.engine, phase, recipe=recipe, steps=phase.steps, report_every=every):
            pass

    def evaluate(self) -> None:
        """Score all tasks in every mode."""
        evaluate(self.engine, self._batches, recipe=self.assembly.recipe)

    @cached_property
    def _batches(self) -> list[Batch]:
        # The bare loop has them in memory too.
        return [task.evaluation() for task in self.assembly.stream.tasks]

    def go_to(self, index: int) -> None:
        """Learn the tasks before the one with this index (from 0), and begin it."""
        while self.index < index:
            if self.index == 0:
                self._begin_task()
            self.learn()
            start = time.process_time()
            self.assembly.recipe.strategy.end_task(self.engine, self.index)
            self.index += 1
            self._begin_task()
            # Only the last change of tasks is kept: with a memory it is the most expensive one.
            self.between = time.process_time() - start

    def _begin_task(self) -> None:
        recipe = self.assembly.recipe
        reset_for_task(self.engine, recipe)
        recipe.strategy.begin_task(self.engine, self.index)
