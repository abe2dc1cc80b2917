"""How much each weight matters for a task that was learned, measured on the task's training rows.

Used by ewc, online_ewc and mas. Rows are read as in training, from the initial fast state; neither
the carried state nor any gradient is touched. Devices share the rows.

Shapes: B batch, T positions, V vocabulary, N all positions of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from ttt.devices.collective import over_devices
from ttt.learner import Engine, competing, cross_entropy, rooted
from ttt.stream import IGNORE, Batch, Phase

Per = Literal["sample", "batch"]
Labels = Literal["model", "predicted", "data"]
# The importance is a gradient of this function of logits, their batch and its number in the pass.
Score = Callable[[Tensor, Batch, int], Tensor]


def sampled_batches(phase: Phase, *, samples: int, per: Per) -> Iterator[Batch]:
    """Yield the first `samples` training rows of a task, or all if it has fewer.

    Rows come one by one (`sample`), or together as in the task's batches (`batch`).
    """
    for step in range(phase.steps):
        batch = phase.batch(step).rows(0, samples)
        samples -= len(batch.tokens_BT)
        yield from batch.cut(1) if per == "sample" else [batch]
        if samples == 0:
            return


def importances(
    engine: Engine, batches: Iterator[Batch], *, of: Sequence[Tensor], score: Score, power: int
) -> list[Tensor]:
    """Return the mean of |d score / d theta|^power over `batches`, for each parameter."""
    fabric, learner = engine.fabric, engine.learner
    sums = [torch.zeros_like(parameter) for parameter in of]
    count = torch.zeros((), device=fabric.device)
    # Device r of n reads the batches r, r + n, ...; their numbers stay those of the whole pass.
    for number, batch in islice(enumerate(batches), fabric.global_rank, None, fabric.world_size):
        batch = batch.to(fabric.device)
        with fabric.autocast():
            logits_BTV, _ = learner(batch, learner.adapter.initial())
            value = rooted(score(logits_BTV, batch, number), of)
        # Not `backward`: it would leave gradients behind and make the devices wait for each other.
        gradients = torch.autograd.grad(value, of, allow_unused=True)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None and power == 1:
                total += gradient.abs_()
            elif gradient is not None:
                total.addcmul_(gradient, gradient)
        count += 1
    # Devices may hold one batch more or less: sum first, then divide.
    whole = over_devices(fabric, count, op="sum")
    return [over_devices(fabric, total, op="sum") / whole for total in sums]


def fisher(*, per: Per, labels: Labels, generator: Callable[[int], torch.Generator]) -> Score:
    """Return a score whose squared gradient is the diagonal of a Fisher information.

    `sample`: a row's log-likelihood, summed over its scored positions. `batch`: the mean over a
    batch's scored positions, times the root of its rows, so that the square is
    `rows * (gradient of the mean)^2` as in the public code of Hsu et al. 2018; gradients of rows
    that disagree cancel.
    """

    def score(logits_BTV: Tensor, batch: Batch, number: int) -> Tensor:
        batch = batch._replace(targets_BT=labels_of(logits_BTV, batch, kind=labels, generator=generator(number)))
        nats = cross_entropy(logits_BTV, batch, reduction="sum")
        if per == "sample":
            return nats
        # Clamped: a batch may have no scored position at all.
        scored = (batch.targets_BT != IGNORE).sum().clamp_min(1)
        # `importances` squares the gradient, and the root becomes the number of rows.
        return nats / scored * len(batch.targets_BT) ** 0.5

    return score


def labels_of(logits_BTV: Tensor, batch: Batch, *, kind: Labels, generator: torch.Generator) -> Tensor:
    """Return labels [B, T] for the scored positions, among the outputs that compete."""
    if kind == "data":
        return batch.targets_BT
    logits_BTV = competing(logits_BTV.detach().float(), batch)
    if kind == "predicted":
        label_BT = logits_BTV.argmax(-1)
    else:
        # On the CPU, so that the draw is the same wherever the model is.
        share_NV = logits_BTV.softmax(-1).flatten(0, 1).cpu()
        drawn_N = torch.multinomial(share_NV, 1, generator=generator)
        label_BT = drawn_N.view_as(batch.targets_BT).to(logits_BTV.device)
    return torch.where(batch.targets_BT == IGNORE, IGNORE, label_BT)


def squared_norm(logits_BTV: Tensor, batch: Batch, number: int) -> Tensor:
    """Return |output|^2 over scored positions and competing outputs, as the mean over rows."""
    logits_BTV = logits_BTV.float()
    if batch.outputs_BV is not None:
        # Zero, not -inf as in `competing`: these outputs are squared, not normalised.
        logits_BTV = logits_BTV * batch.outputs_BV[:, None]
    scored_BT1 = (batch.targets_BT != IGNORE)[..., None]
    return (logits_BTV * scored_BT1).square().sum() / len(batch.targets_BT)
