"""What a batch's logits are worth: cross-entropy over the scored tokens and the outputs that
compete.

Shapes: B batch (lanes), T time, V vocabulary, N scored positions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.stream import IGNORE, Batch


def cross_entropy(logits_BTV: Tensor, batch: Batch, *, reduction: Literal["mean", "sum"]) -> Tensor:
    """The loss in nats over the scored tokens of a batch, from logits [B, T, V] or [N, V]."""
    if logits_BTV.dim() == 2:
        return F.cross_entropy(scored_logits(logits_BTV, batch), scored_targets(batch), reduction=reduction)
    rows_NV = flat_logits(competing(logits_BTV, batch))
    return F.cross_entropy(rows_NV, batch.targets_BT.reshape(-1), ignore_index=IGNORE, reduction=reduction)


def rooted(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """`loss` with a graph also where it has none: gradients of zero for the parameters.

    Where all documents of a batch are too short for a write, the parameters that make writes take
    no part; on several devices their gradients must be exchanged all the same.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if loss.requires_grad or not trained:
        return loss
    return loss + torch.stack([0.0 * parameter.sum() for parameter in trained]).sum()


def flat_logits(logits_BTV: Tensor) -> Tensor:
    """Logits as [B * T, V].

    Where they are a view of a tensor of just that shape, return that tensor: two nodes fewer in the
    graph, which is 5 % of a training step of a small network.
    """
    whole = logits_BTV._base
    shape = (logits_BTV.shape[0] * logits_BTV.shape[1], logits_BTV.shape[2])
    if whole is not None and whole.shape == shape and whole.is_contiguous() and logits_BTV.is_contiguous():
        return whole
    return logits_BTV.reshape(shape)


def num_scored(batch: Batch) -> Tensor:
    """The number of scored tokens."""
    return (batch.targets_BT != IGNORE).sum()


def scored_targets(batch: Batch) -> Tensor:
    """The targets of the scored positions [N], row after row."""
    return batch.targets_BT[batch.targets_BT != IGNORE]


def scored_logits(logits: Tensor, batch: Batch) -> Tensor:
    """Logits [N, V] of the scored positions, from those of all [B, T, V] or of these alone [N, V].

    Outputs that do not compete are at -inf.
    """
    scored_BT = batch.targets_BT != IGNORE
    logits_NV = logits if logits.dim() == 2 else logits[scored_BT]
    if batch.outputs_BV is None:
        return logits_NV
    row_N = scored_BT.nonzero()[:, 0]
    return logits_NV.masked_fill(~batch.outputs_BV[row_N], float("-inf"))


def competing(logits_BTV: Tensor, batch: Batch) -> Tensor:
    """Logits in which the outputs that do not compete in a row are at -inf."""
    if batch.outputs_BV is None:
        return logits_BTV
    return logits_BTV.masked_fill(~batch.outputs_BV[:, None], float("-inf"))
