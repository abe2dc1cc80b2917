"""Overrides for small runs of `objective=reward`, with prompts and without."""

from __future__ import annotations

RULES = (
    "task=reward-sequence",
    "source=rule-world",
    "objective=reward",
    "task.num_tasks=2",
    "task.steps_per_task=4",
    "task.batch_size=4",
    "task.base_batch=8",
    "task.eval_sequences=8",
    "model.width=16",
    "model.heads=2",
    "model.mlp_width=24",
    "model.window=null",
    "base=none",
    "trainer.threads=1",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    "logger=none",
    "report=false",
)
POOL = ("adapter=prompt_pool", "adapter.emit=2", "adapter.problems=4", "objective.cycle.slow_steps=3")
ALONE = ("adapter=none",)
