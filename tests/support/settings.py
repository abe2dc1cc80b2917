"""Two small settings for tests of evaluation: the MLP on vectors, and tokens with fast weights."""

from __future__ import annotations

from harness import FAST, SMALL

MLP = ("model=mlp", "source=digits", "adapter=none", "base=none", "task=permuted-sequence", "task.permute=positions",
       "task.num_tasks=3", "task.steps_per_task=10", "task.eval_sequences=all", "optimizer=sgd", "trainer.threads=1",
       "trainer.precision=32-true", "trainer.accelerator=cpu", "logger=none", "report=false")  # fmt: skip
NANO = (*SMALL, *FAST, "base=none", "adapter.reset=never", "task.steps_per_task=6", "optimizer.slow_every=2")
