"""A short causal convolution inside each document, which may continue in the middle of a sequence.

    y_t = sum over o of w_o x_{t-o}        each channel its own w; nothing from before the document

Shapes: B batch (lanes), T time, Q channels, O taps, A earlier tokens and new ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import OPEN, FastState
from ttt.adapters.reading import Pass


def short_conv(x_BTQ: Tensor, weight_OQ: Tensor, now: Pass, state: FastState) -> tuple[Tensor, FastState]:
    """y [B, T, Q], and the last inputs under OPEN names, where the next piece continues."""
    weight_OQ = weight_OQ.to(x_BTQ.dtype)
    if not now.streaming and now.grid.slot_BT is None:
        return _one_document(x_BTQ, weight_OQ), {}
    return _many_documents(x_BTQ, weight_OQ, now.segment_BT, state)


def _one_document(x_BTQ: Tensor, weight_OQ: Tensor) -> Tensor:
    """The plain case, where each row is one document from its beginning."""
    sum_BTQ = weight_OQ[0] * x_BTQ
    for o in range(1, len(weight_OQ)):
        sum_BTQ = torch.addcmul(sum_BTQ, F.pad(x_BTQ, (0, 0, o, -o)), weight_OQ[o])
    return sum_BTQ


def _many_documents(x_BTQ: Tensor, weight_OQ: Tensor, segment_BT: Tensor, state: FastState) -> tuple[Tensor, FastState]:
    """Rows with packed documents, padding, or inputs from an earlier piece."""
    lanes, width, back = len(x_BTQ), x_BTQ.shape[2], len(weight_OQ) - 1
    old_BOQ = state.get(f"{OPEN}input", x_BTQ.new_zeros(1, back, width)).expand(lanes, -1, -1)
    # Document -1 never equals a real one, so that the first tokens see nothing before them.
    nobody_BO = torch.full((1, back), -1, device=x_BTQ.device)
    segment_BA = torch.cat([state.get(f"{OPEN}input_segment", nobody_BO).expand(lanes, -1), segment_BT], 1)
    x_BAQ = torch.cat([old_BOQ.to(x_BTQ.dtype), x_BTQ], 1)
    # Padding may lie between tokens and must not count as the past of any: a stable sort moves it
    # to the front, the lags are taken there, and the inverse order brings everything back.
    order_BA = (segment_BA >= 0).long().argsort(dim=1, stable=True)
    rank_BA = order_BA.argsort(dim=1)
    sorted_BAQ, sorted_BA = x_BAQ.gather(1, order_BA[..., None].expand_as(x_BAQ)), segment_BA.gather(1, order_BA)
    sum_BAQ = weight_OQ[0] * sorted_BAQ
    for o in range(1, back + 1):
        same_BA1 = (F.pad(sorted_BA, (o, -o), value=-1) == sorted_BA)[..., None]
        sum_BAQ = torch.addcmul(sum_BAQ, F.pad(sorted_BAQ, (0, 0, o, -o)) * same_BA1, weight_OQ[o])
    sum_BAQ = sum_BAQ.gather(1, rank_BA[..., None].expand_as(sum_BAQ))
    # The newest inputs stand last after the sort. `[length - back :]` rather than `[-back:]`, which
    # would be everything for a convolution of one tap.
    length = sorted_BA.shape[1]
    rest = {f"{OPEN}input": sorted_BAQ[:, length - back :], f"{OPEN}input_segment": sorted_BA[:, length - back :]}
    return sum_BAQ[:, back:], rest
