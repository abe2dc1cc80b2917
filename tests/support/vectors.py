"""Overrides for runs of seconds whose model is the plain MLP on images as vectors."""

from __future__ import annotations

VECTORS = (
    "model=mlp", "model.widths=[32,16]", "adapter=none", "base=none", "source=digits", "task=permuted-sequence",
    "task.permute=positions", "task.num_tasks=3", "task.batch_size=16", "task.steps_per_task=6",
    "task.eval_sequences=20", "optimizer=sgd", "optimizer.clip=null", "trainer.threads=1", "trainer.precision=32-true",
    "trainer.accelerator=cpu", "logger=none", "report=false",
)  # fmt: skip
# The classes of the source, two for each task.
SPLIT = ("task=split-sequence", "task.classes_per_task=2", "task.num_tasks=5")
