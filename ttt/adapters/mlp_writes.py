"""What one down-projection with fast weights writes: keys, targets, and the cells of an open chunk.

Shapes: B batch (lanes), T time, N chunks, C cells per chunk, D model width, F feed-forward width,
X any width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import OPEN, FastState
from ttt.adapters.reading import Pass
from ttt.kernels.inplace.steps import ChunkUpdates
from ttt.kernels.scan import gated_scan


@dataclass(frozen=True)
class WriteRule:
    """How a layer forms keys, targets and writes; see conf/adapter/mlp_fast.yaml."""

    rule: Literal["hebb", "delta", "nlms"]
    decay: float
    momentum: float
    step: float
    learn_step: bool
    clip: float | None
    keys: Literal["l2", "raw"]
    centre: bool
    taps: int
    projection: float
    through_writes: bool

    @property
    def associative(self) -> bool:
        """Is every write independent of what is already written?

        Then chunks need not wait for one another, and a parallel executor can be chosen.
        """
        return self.rule == "hebb" and self.momentum == 0


@dataclass(frozen=True)
class Writes:
    """All that one pass reads and writes, in the grid; `pull_BNC` scales error correction."""

    q_BNCF: Tensor
    k_BNCF: Tensor
    v_BNCD: Tensor
    pull_BNC: Tensor | None
    steps: ChunkUpdates


class Sources:
    """What targets are made of: embeddings, the same for all layers, or each MLP's own input."""

    def __init__(self, *, hidden: bool) -> None:
        self.hidden = hidden
        self.shared_BTD: Tensor | None = None
        self._of_layer: dict[str, Tensor] = {}

    def listen(self, mlp: nn.Module, name: str) -> None:
        # The down-projection receives activations only; its MLP's input passes through a hook.
        if self.hidden:
            mlp.register_forward_pre_hook(partial(self._hear, name))

    def _hear(self, name: str, mlp: nn.Module, args: tuple[Any, ...]) -> None:
        self._of_layer[name] = args[0]

    def take(self, name: str) -> Tensor:
        """The normalised source of one layer, [B, T, D]."""
        if not self.hidden:
            assert self.shared_BTD is not None
            return self.shared_BTD
        # Popped, so that no activation outlives the pass.
        x_BTD = self._of_layer.pop(name)
        return F.rms_norm(x_BTD, x_BTD.shape[-1:])


def fill_open_chunk(z_BNCF: Tensor, x_BNCD: Tensor, now: Pass, state: FastState) -> tuple[Tensor, Tensor, FastState]:
    """The grid with the cells that earlier pieces filled, and the cells to keep for the next piece.

    A chunk is written as a whole: its targets mix neighbouring tokens, wherever a piece ends.
    """
    token_BNC = now.grid.token_BNC.expand(len(z_BNCF), -1, -1)
    # Cells of the open chunk stand before the first new token of their lane.
    # A piece may begin in the middle of a chunk, at another place in each lane.
    first_B1 = token_BNC[:, 0].int().argmax(1, keepdim=True)
    earlier_BC = (first_B1 > torch.arange(now.grid.size, device=z_BNCF.device)) & token_BNC[:, 0].any(1, keepdim=True)
    used_B = token_BNC.any(2).sum(1)
    filled, rest = [], {}
    for key, x_BNCX in (("z", z_BNCF), ("x", x_BNCD)):
        old_BCX = state.get(f"{OPEN}{key}", torch.zeros_like(x_BNCX[:1, 0]))
        first_BCX = torch.where(earlier_BC[..., None], old_BCX, x_BNCX[:, 0])
        x_BNCX = torch.cat([first_BCX[:, None], x_BNCX[:, 1:]], 1)
        filled.append(x_BNCX)
        index_B1CX = (used_B - 1).clamp(min=0).view(-1, 1, 1, 1).expand(-1, 1, *x_BNCX.shape[2:])
        last_BCX = x_BNCX.gather(1, index_B1CX)[:, 0]
        # A lane that got only padding keeps the cells of the piece before.
        rest[f"{OPEN}{key}"] = torch.where((used_B > 0)[:, None, None], last_BCX, old_BCX)
    return filled[0], filled[1], rest


def mean_of_earlier(z_BNCF: Tensor, now: Pass, gate_BN: Tensor, state: FastState) -> tuple[Tensor, FastState]:
    """The mean key of the chunks before each chunk, [B, N, 1, F], and the sums after the last.

    A mean that included the chunk itself would leak later tokens into earlier keys.
    """
    full_BN1 = now.grid.closes_BN.unsqueeze(-1).float()
    before, after = [], {}
    # Sum and count decay alike, so their quotient stays a mean, one that favours recent chunks.
    sums = {"key_sum": z_BNCF.float().sum(2) * full_BN1, "key_count": now.grid.size * full_BN1}
    for key, delta_BNX in sums.items():
        start_BX = state[key].expand(z_BNCF.shape[0], -1)
        before_BNX, after[key] = gated_scan(delta_BNX, gate_BN=gate_BN, start_BX=start_BX)
        before.append(before_BNX)
    return (before[0] / before[1].clamp(min=1.0)).unsqueeze(2).to(z_BNCF.dtype), after


def clip_writes(v_BNCD: Tensor, k_BNCF: Tensor, steps: ChunkUpdates) -> Tensor:
    """Targets scaled down so that no chunk's write V^T K has a norm above `steps.limit`.

    |sum v k^T|^2 = sum of (V V^T) * (K K^T): products of C x C instead of a matrix D x F per chunk.
    """
    if steps.limit is None:
        return v_BNCD
    # Sums of squares in bf16 would have three digits, and one of them scales the whole chunk.
    wide = torch.promote_types(v_BNCD.dtype, torch.float32)
    v_BNCD, k_BNCF = v_BNCD.to(wide), k_BNCF.to(wide)
    square_BN = ((v_BNCD @ v_BNCD.mT) * (k_BNCF @ k_BNCF.mT)).sum((2, 3)).clamp(min=1e-30)
    return v_BNCD * (steps.limit / square_BN.sqrt()).clamp(max=1.0)[..., None, None]
