"""In-place fast weights: the chunk-wise outer-product memory behind `mlp_fast`.

    S_n = g_n P_{n-1}            what chunk n reads (apply, then write)
    o_c = S_n q_c                for every token c of chunk n
    P_n = S_n + sum_c v_c k_c^T  what the chunk leaves behind

In-Place Test-Time Training (arXiv 2604.06169), eq. of section 3, with a gate g_n per chunk: 0 resets,
1 keeps, between is decay. The step size is folded into v. States are fp32 whatever the inputs are.
Shapes: B batch (lanes), N chunks, C tokens a chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ttt.kernels.scan import gated_scan

Memory = tuple[Tensor, Tensor]


class Form(Protocol):
    """What the three forms have in common; they agree in values and gradients."""

    __name__: str

    def __call__(
        self, q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor
    ) -> Memory: ...


def inplace_naive(q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor) -> Memory:
    """The definition, token by token. Returns what was read, [B, N, C, D], and the last state."""
    lanes = []
    states = []
    for b in range(q_BNCF.shape[0]):
        state_DF = state_BDF[b].float()
        reads = []
        for n in range(q_BNCF.shape[1]):
            state_DF = gate_BN.expand(q_BNCF.shape[0], -1)[b, n] * state_DF
            written_DF = state_DF
            for c in range(q_BNCF.shape[2]):
                reads.append(state_DF.to(q_BNCF.dtype) @ q_BNCF[b, n, c])
                written_DF = written_DF + torch.outer(v_BNCD[b, n, c], k_BNCF[b, n, c]).float()
            state_DF = written_DF
        lanes.append(torch.stack(reads).unflatten(0, q_BNCF.shape[1:3]))
        states.append(state_DF)
    return torch.stack(lanes), torch.stack(states)


def inplace_scan(q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor) -> Memory:
    """The same in three steps: all chunk sums at once, an exclusive scan over chunks, all reads at once."""
    delta_BNDF = v_BNCD.transpose(-1, -2) @ k_BNCF
    before_BNDF, state_BDF = gated_scan(delta_BNDF, gate_BN=gate_BN, start_BX=state_BDF.float())
    return q_BNCF @ before_BNDF.to(q_BNCF.dtype).transpose(-1, -2), state_BDF


def inplace_dual(q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor) -> Memory:
    """The same without a state per chunk: O = (Q K^T * M) V, M[t, s] = product of the gates behind s up to t.

    Its cost grows with T * T, the scan's with D * F: cheaper for short sequences.
    """
    chunks, size = q_BNCF.shape[1:3]
    eye_NN = torch.eye(chunks, device=gate_BN.device)[None]
    # What is left, when chunk n is read, of what chunk m wrote; and what is left of it at the end.
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


# Half precision: a state moved through memory once a block of L tokens costs as much as L (D + F) operations
# a token at L = this * sqrt(D F / (D + F)). Measured on a CPU with AMX; other hardware will differ.
BLOCK_FACTOR = 30.0
# A block of fewer chunks costs more than a state for each chunk, made in batches; states of up to so many numbers
# stay in the cache and are cheap to move. Measured likewise.
LEAST_BLOCK, LEAST_BLOCK_CACHED, CACHED_STATE = 4, 8, 2**16


@dataclass(frozen=True)
class Choice:
    """How a row will be computed: how many chunks at a time, W0 read with the state or apart."""

    block: int
    folded: bool

    def __str__(self) -> str:
        return f"lean, {'W0 folded in' if self.folded else 'W0 apart'}, {self.block} chunk(s) at a time"


def cheapest(chunks: int, *, chunk: int, width: int, mlp_width: int, dtype: torch.dtype) -> Choice:
    """The cheapest form by cost model; `ttt-bench kernels` times it against the others.

    In full precision operations decide: a state per chunk costs 2 D F of them a token, and one product is
    saved where W0 is read with the state. In half precision the fp32 state decides, which is moved through
    memory once a block; W0 stays apart, for the sum would lose the state to rounding. Blocks pay where they
    are long, states large, or one block is the whole row.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return Choice(1, True)
    tokens = BLOCK_FACTOR * math.sqrt(width * mlp_width / (width + mlp_width))
    block = min(chunks, round(tokens / chunk))
    least = LEAST_BLOCK_CACHED if width * mlp_width <= CACHED_STATE else LEAST_BLOCK
    return Choice(block if block >= min(chunks, least) else 1, False)
