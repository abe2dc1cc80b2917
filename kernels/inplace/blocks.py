"""One block of chunks of the in-place memory, forward and backward.

kernels/inplace/lean.py has the equations.
Shapes: B batch (lanes), N chunks, C tokens per chunk, J blocks, G chunks per block, L = G C tokens
per block, D model width, F feed-forward width, X any width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ttt.kernels.inplace.gates import GateProducts


class ChunkBlock(NamedTuple):
    """The inputs of one block with its tokens in one row, and its gate products per token."""

    q_BLF: Tensor
    k_BLF: Tensor
    v_BLD: Tensor
    since_BL1: Tensor
    mask_BLL: Tensor
    to_end_BL1: Tensor
    whole_B11: Tensor


def block_of(
    j: int, size: int, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, products: GateProducts
) -> ChunkBlock:
    """Return block j, of `size` chunks; the last block may be shorter."""
    here = slice(j * size, (j + 1) * size)
    q_BLF, v_BLD = q_BNCF[:, here].flatten(1, 2), v_BNCD[:, here].flatten(1, 2)
    k_BLF = q_BLF if k_BNCF is None else k_BNCF[:, here].flatten(1, 2)
    tokens, length = q_BNCF.shape[2], q_BLF.shape[1]
    since_BL1, to_end_BL1 = (
        x[:, j].repeat_interleave(tokens, 1)[:, :length, None].to(q_BLF.dtype)
        for x in (products.since_start_BJG, products.to_end_BJG)
    )
    between_BGG = products.between_BJGG[:, j].to(q_BLF.dtype)
    mask_BLL = between_BGG.repeat_interleave(tokens, 1).repeat_interleave(tokens, 2)[:, :length, :length]
    return ChunkBlock(q_BLF, k_BLF, v_BLD, since_BL1, mask_BLL, to_end_BL1, products.whole_BJ[:, j, None, None])


def read_block(block: ChunkBlock, state_BDF: Tensor) -> Tensor:
    """Return O = a * (Q S^T) + ((Q K^T) * M) V."""
    read_BLD = torch.bmm(block.q_BLF, state_BDF.to(block.q_BLF.dtype).mT).mul_(block.since_BL1)
    return read_BLD.baddbmm_(torch.bmm(block.q_BLF, block.k_BLF.mT).mul_(block.mask_BLL), block.v_BLD)


def state_after(block: ChunkBlock, state_BDF: Tensor, *, in_place: bool) -> Tensor:
    """Return t S + (e * V)^T K, in the state's precision."""
    faded_BDF = state_BDF.mul_(block.whole_B11) if in_place else state_BDF * block.whole_B11
    return faded_BDF.add_(torch.bmm((block.to_end_BL1 * block.v_BLD).mT, block.k_BLF))


def block_gradients(
    block: ChunkBlock, state_BDF: Tensor, dread_BLD: Tensor, grad_BDF: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the gradients of q, k and v.

    Where keys are the queries, the gradient of q holds both and that of k is None.
    """
    # Scores are made again: kept for the backward pass they would be L numbers per token and block.
    same, dtype = block.k_BLF is block.q_BLF, block.q_BLF.dtype
    dq_BLF = torch.bmm(dread_BLD * block.since_BL1, state_BDF.to(dtype))
    dscore_BLL = torch.bmm(dread_BLD, block.v_BLD.mT).mul_(block.mask_BLL)
    dq_BLF.baddbmm_(dscore_BLL, block.k_BLF)
    dk_BLF = dq_BLF.baddbmm_(dscore_BLL.mT, block.q_BLF) if same else torch.bmm(dscore_BLL.mT, block.q_BLF)
    dv_BLD = torch.bmm(torch.bmm(block.q_BLF, block.k_BLF.mT).mul_(block.mask_BLL).mT, dread_BLD)
    if grad_BDF is not None:
        dk_BLF.baddbmm_(block.to_end_BL1 * block.v_BLD, grad_BDF.to(dtype))
        dv_BLD.addcmul_(block.to_end_BL1, torch.bmm(block.k_BLF, grad_BDF.to(dtype).mT))
    return dq_BLF, None if same else dk_BLF, dv_BLD


def grad_before(block: ChunkBlock, dread_BLD: Tensor, grad_BDF: Tensor | None, wide: torch.dtype) -> Tensor:
    """Return dS = t G + (a * dO)^T Q, in the state's precision."""
    product_BDF = torch.bmm((dread_BLD * block.since_BL1).mT, block.q_BLF).to(wide)
    return product_BDF if grad_BDF is None else product_BDF.addcmul_(block.whole_B11, grad_BDF)


def fill_gate_gradients(
    into: GateProducts,
    j: int,
    block: ChunkBlock,
    state_BDF: Tensor,
    dread_BLD: Tensor,
    grad_BDF: Tensor | None,
    chunk: int,
) -> None:
    """Fill in the gradients of the gate products of block j.

    They are computed apart from `block_gradients`, because fixed gates, the usual case, need none.
    """

    def per_chunk(x_BLX: Tensor, dim: int = 1) -> Tensor:
        return x_BLX.unflatten(dim, (-1, chunk)).sum(dim + 1)

    count, thin_BDF = dread_BLD.shape[1] // chunk, state_BDF.to(block.q_BLF.dtype)
    read_BL = (dread_BLD * torch.bmm(block.q_BLF, thin_BDF.mT)).sum(2)
    into.since_start_BJG[:, j, :count] = per_chunk(read_BL)
    product_BLL = torch.bmm(dread_BLD, block.v_BLD.mT) * torch.bmm(block.q_BLF, block.k_BLF.mT)
    into.between_BJGG[:, j, :count, :count] = per_chunk(per_chunk(product_BLL), 2)
    if grad_BDF is not None:
        written_BL = (block.v_BLD * torch.bmm(block.k_BLF, grad_BDF.to(block.q_BLF.dtype).mT)).sum(2)
        into.to_end_BJG[:, j, :count] = per_chunk(written_BL)
        into.whole_BJ[:, j] = (grad_BDF * state_BDF).sum((1, 2))
