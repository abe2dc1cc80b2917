"""What preparing and batching cost beside the training step of the plain nano model, for streams and sources."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial

import torch

from ttt.cli.bench import Row, paired
from ttt.cli.benches.harness import assembly_of
from ttt.learner import Engine
from ttt.stream import Phase
from ttt.training.train import train

STEPS = 5
STREAMS = (
    ("split-sequence", "languages"),
    ("split-sequence", "recall"),
    ("split-sequence", "code"),
    ("split-sequence", "automata"),
    ("permuted-sequence", "digits"),
    ("permuted-sequence", "mnist"),
    ("permuted-sequence", "languages"),
    ("drift-sequence", "languages"),
    ("recall-sequence", "languages"),
    ("label-sequence", "digits"),
    ("stationary", "prose"),
)


def batching(phase: Phase) -> None:
    for step in range(STEPS):
        phase.batch(step)


def training(engine: Engine, phase: Phase) -> None:
    for _ in train(engine, phase, steps=STEPS, report_every=STEPS):
        pass


def measure(*, rounds: int) -> Iterator[Row]:
    """One row a stream: seconds until a checked run stands (data prepared before), CPU ms of a batch and a step."""
    for task, source in STREAMS:
        threads = f"trainer.threads={torch.get_num_threads()}"
        overrides = (f"task={task}", f"source={source}", "adapter=none", "base=none", threads)
        assembly_of(*overrides)
        start = time.perf_counter()
        assembly = assembly_of(*overrides)
        opened = time.perf_counter() - start
        engine = Engine.build(assembly.settings.fabric(), assembly.learner, assembly.learner.configure_optimizers())
        phase = assembly.stream.phases[0]

        seconds = paired({"batch": partial(batching, phase), "step": partial(training, engine, phase)}, rounds=rounds)
        batch, step = (statistics.median(seconds[side]) / STEPS * 1e3 for side in ("batch", "step"))
        yield {
            "task": task,
            "source": source,
            "s to stand": opened,
            "ms a batch": batch,
            "ms a step": step,
            "share %": 100 * batch / step,
        }
