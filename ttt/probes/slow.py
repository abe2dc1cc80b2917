"""How much of what mode `slow` loses in a stream is mere miscalibration.

    theta_k = theta after k steps on fresh batches of the base distribution, writes off
    drift_k = loss of theta_k(after the stream) - loss of theta_k(before the stream), in mode slow

A model that always writes in training is never trained as mode `slow` reads. What some steps on the
base's own text bring back was not forgotten; the base takes the same steps, as the control.
Shapes: B sequences, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ttt.learner import Learner, cross_entropy
from ttt.probes.state import bits_of
from ttt.stream import Batch, Task

# Largest norm of the gradient, as in the training of a base.
CLIP = 1.0


def looks(steps: int) -> list[int]:
    """After how many steps the curve has a point: 0, 1, 2, 4, ... and the last one."""
    return sorted({0, *(2**i for i in range(steps.bit_length()) if 2**i <= steps), steps})


def recalibrate(
    learner: Learner,
    base: Task,
    tasks: Sequence[Task],
    *,
    first: int,
    steps: int,
    lr: float,
    progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Train `learner` on batches `first`, `first` + 1, ... of `base` with writes off.

    Return a row for each of `looks`: its losses on `base` and `tasks`, with writes off and on.
    """
    device = next(learner.parameters()).device
    evaluations = [x.evaluation().to(device) for x in (base, *tasks)]
    # Weight decay would move weights even where the loss is already at its minimum.
    optimizer = torch.optim.AdamW((p for p in learner.parameters() if p.requires_grad), lr=lr, weight_decay=0.0)
    rows = []
    for step in range(steps + 1):
        if step in looks(steps):
            rows.append({"step": step, **losses(learner, evaluations)})
            progress(step)
        if step < steps:
            _step(learner, optimizer, base.batch(first + step).to(device))
    return rows


@torch.no_grad()
def losses(learner: Learner, evaluations: Sequence[Batch]) -> dict[str, float | list[float]]:
    """Return bits per token in modes slow and fast; of `evaluations` the first is the base's."""
    learner.eval()
    numbers: dict[str, float | list[float]] = {}
    for mode in ("slow", "fast"):
        reads = (learner(batch, learner.adapter.initial(), write=mode == "fast")[0] for batch in evaluations)
        base, *each = (
            float(bits_of(logits_BTV, batch).nanmean()) for logits_BTV, batch in zip(reads, evaluations, strict=True)
        )
        numbers |= {f"{mode}_base": base, f"{mode}_tasks": sum(each) / len(each), f"{mode}_each": each}
    return numbers


def _step(learner: Learner, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    learner.train()
    logits_BTV, _ = learner(batch, learner.adapter.initial(), write=False)
    cross_entropy(logits_BTV, batch, reduction="mean").backward()
    torch.nn.utils.clip_grad_norm_(learner.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
