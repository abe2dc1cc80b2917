"""The in-place memory without a state per chunk: the dual form.

    O = (Q K^T * M) V

M[t, s] is the product of the gates after the chunk of s up to that of t, and 0 unless the chunk of
s comes first. The cost grows with T T, that of kernels/inplace/scan.py with D F: this is cheaper
for short sequences.
kernels/inplace/naive.py has the definition.
Shapes: B batch (lanes), N and M chunks, C tokens per chunk, G = N C tokens, D model width,
F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.scan import gated_scan
from ttt.kernels.states import ReadAndState


def inplace_dual(q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor) -> ReadAndState:
    """Return what `inplace_naive` returns, through the scores between all tokens of a row."""
    chunks, size = q_BNCF.shape[1:3]
    eye_NN = torch.eye(chunks, device=gate_BN.device)[None]
    # How much of the write of chunk m is left when chunk n is read, and how much at the end.
    weight_BNM, last_BM = gated_scan(eye_NN, gate_BN=gate_BN, start_BX=torch.zeros_like(eye_NN[:, 0]))
    start_BN = gate_BN.cumprod(1)
    q_BGF, k_BGF, v_BGD = (x.flatten(1, 2) for x in (q_BNCF, k_BNCF, v_BNCD))
    mask_BGG = weight_BNM.repeat_interleave(size, 1).repeat_interleave(size, 2)
    score_BGG = q_BGF @ k_BGF.transpose(1, 2)
    o_BGD = (score_BGG * mask_BGG.to(score_BGG.dtype)) @ v_BGD
    read_BGD = q_BGF @ state_BDF.to(q_BGF.dtype).transpose(1, 2)
    o_BGD = o_BGD + start_BN.repeat_interleave(size, 1)[..., None].to(read_BGD.dtype) * read_BGD
    left_BG1 = last_BM.repeat_interleave(size, 1)[..., None].to(v_BGD.dtype)
    written_BDF = (left_BG1 * v_BGD).transpose(1, 2) @ k_BGF
    return o_BGD.unflatten(1, (chunks, size)), start_BN[:, -1, None, None] * state_BDF.float() + written_BDF.float()
