"""Strategies over a bare torch loop on permuted digits: MLP 64-256-256-10, SGD 0.05, batch 32, 10 passes a task.

The bare loop shuffles each pass, slices tensors, and reports nothing: what one would write without a harness.
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

from ttt.cli.bench import Row, paired, ratio
from ttt.cli.benches.harness import assembly_of
from ttt.evaluation.evaluate import evaluate
from ttt.learner import Engine
from ttt.run.assemble import Assembly
from ttt.run.loop import begin_task
from ttt.stream import Batch
from ttt.training.train import train

TASKS = 10
JOB = (
    "model=mlp", "adapter=none", "base=none", "source=digits", "source.eval_share=0.2", "task=permuted-sequence",
    "task.permute=positions", f"task.num_tasks={TASKS}", "task.batch_size=32", "task.steps_per_task=10-pass",
    "task.eval_sequences=all", "optimizer=sgd", "optimizer.lr=0.05", "optimizer.clip=null",
    "trainer.precision=32-true", "trainer.accelerator=cpu",
)  # fmt: skip


class Bare:
    """A network, tensors, and two loops."""

    def __init__(self, assembly: Assembly) -> None:
        widths = [64, 256, 256]
        hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self._model = nn.Sequential(*hidden, nn.Linear(widths[-1], 10))
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.05, fused=True)
        self._steps = assembly.stream.phases[0].steps
        whole = [assembly.stream.tasks[0].batch(step) for step in range(self._steps // 10)]
        self._x_NX = torch.cat([batch.tokens_BT for batch in whole]).flatten(0, 1)
        self._y_N = torch.cat([batch.targets_BT for batch in whole]).flatten()
        self._eval = [(t.evaluation().tokens_BT.flatten(0, 1), t.evaluation().targets_BT.flatten()) for t in
                      assembly.stream.tasks]  # fmt: skip

    def train(self) -> None:
        for _ in range(10):
            order = torch.randperm(len(self._x_NX))
            x_NX, y_N = self._x_NX[order], self._y_N[order]
            for start in range(0, len(x_NX), 32):
                loss = F.cross_entropy(self._model(x_NX[start : start + 32]), y_N[start : start + 32])
                loss.backward()
                self._optimizer.step()
                self._optimizer.zero_grad()

    @torch.no_grad()
    def evaluate(self) -> None:
        for x_NX, y_N in self._eval:
            scores_NV = self._model(x_NX)
            hits = (scores_NV.argmax(-1) == y_N).float().mean()
            self.scores = float(F.cross_entropy(scores_NV, y_N)), float(hits)


def measure(strategies: list[str], *, rounds: int) -> Iterator[Row]:
    """CPU time of a task over the bare loop and over naive: of the second, when there is something to protect, and of
    the last. `between`: milliseconds at the last task's begin and end."""
    for name in strategies:
        try:
            ours, naive = Side.of(name), Side.of("naive")
        except ValueError as error:
            yield {"strategy": name, "why not": str(error)}
            continue
        bare = Bare(ours.assembly)
        sides = {"bare": bare.train, "naive": naive.learn, "ours": ours.learn}
        ours.go_to(1)
        early = paired(sides, rounds=rounds)
        ours.go_to(TASKS - 1)
        late = paired(sides, rounds=rounds)
        looks = paired({"bare": bare.evaluate, "ours": ours.evaluate}, rounds=rounds)
        over_naive = [ratio(seconds["ours"], seconds["naive"])[1] for seconds in (early, late)]
        yield {
            "strategy": name,
            "bare us": 1e6 * statistics.median(late["bare"]) / ours.steps,
            "over bare": ratio(early["ours"], early["bare"])[1],
            "over naive": over_naive[0],
            "last task": over_naive[1],
            "growth": over_naive[1] / over_naive[0],
            "between ms": 1e3 * ours.between,
            "evaluation": ratio(looks["ours"], looks["bare"])[1],
        }


@dataclass
class Side:
    """A learner somewhere in the stream."""

    assembly: Assembly
    engine: Engine
    index: int = 0
    between: float = 0.0

    @classmethod
    def of(cls, strategy: str) -> Side:
        assembly = assembly_of(*JOB, f"trainer.threads={torch.get_num_threads()}", f"strategy={strategy}")
        return cls(assembly, assembly.engine(assembly.settings.fabric(), None))

    @property
    def steps(self) -> int:
        return self.assembly.stream.phases[self.index].steps

    def learn(self) -> None:
        phase = self.assembly.stream.phases[self.index]
        for _ in train(self.engine, phase, steps=phase.steps, report_every=self.assembly.settings.report_every):
            pass

    def evaluate(self) -> None:
        evaluate(self.engine, self._batches)

    @cached_property
    def _batches(self) -> list[Batch]:
        return [task.evaluation() for task in self.assembly.stream.tasks]

    def go_to(self, index: int) -> None:
        """Learn the tasks before the one with this index, and begin it."""
        while self.index < index:
            if self.index == 0:
                begin_task(self.engine, 0)
            self.learn()
            start = time.process_time()
            self.engine.learner.strategy.end_task(self.engine, self.index)
            self.index += 1
            begin_task(self.engine, self.index)
            self.between = time.process_time() - start
