"""What preparing and batching cost beside the plain model's training step, by stream and source."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial

import torch

from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.timing import Row, paired
from ttt.learner import Engine
from ttt.stream import Phase
from ttt.training.recipe import Recipe
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


def measure_data(*, rounds: int) -> Iterator[Row]:
    """Yield one row per stream: seconds to build a run, CPU ms of a batch and of a step."""
    for task, source in STREAMS:
        threads = f"trainer.threads={torch.get_num_threads()}"
        overrides = (f"task={task}", f"source={source}", "adapter=none", "base=none", threads)
        # The first run of a source prepares its data and keeps them in the cache.
        assembly_of(*overrides)
        start = time.perf_counter()
        assembly = assembly_of(*overrides)
        opened = time.perf_counter() - start
        engine = assembly.engine(assembly.settings.fabric(), None)
        phase = assembly.stream.phases[0]
        sides = {"batch": partial(draw_batches, phase), "step": partial(take_steps, engine, assembly.recipe, phase)}
        seconds = paired(sides, rounds=rounds)
        batch, step = (statistics.median(seconds[side]) / STEPS * 1e3 for side in ("batch", "step"))
        yield {
            "task": task,
            "source": source,
            "s to build": opened,
            "ms a batch": batch,
            "ms a step": step,
            # A step includes its batch.
            "share %": 100 * batch / step,
        }


def draw_batches(phase: Phase) -> None:
    """Draw the first STEPS batches of a phase and drop them."""
    for step in range(STEPS):
        phase.batch(step)


def take_steps(engine: Engine, recipe: Recipe, phase: Phase) -> None:
    """Train for STEPS steps of a phase."""
    for _ in train(engine, phase, recipe=recipe, steps=STEPS, report_every=STEPS):
        pass
