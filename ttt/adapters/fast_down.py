"""One down-projection with fast weights: the layer behind `mlp_fast`.

Shapes: B batch (lanes), T time, N chunks, C tokens a chunk, D model width, F feed-forward width, O taps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import OPEN, FastState
from ttt.adapters.reading import Desk, Pass
from ttt.kernels.dispatch import inplace, targets
from ttt.kernels.inplace.naive import Choice, cheapest
from ttt.kernels.inplace.rows import row_norm
from ttt.kernels.inplace.steps import Steps, inplace_steps
from ttt.kernels.scan import gated_scan

# |k|^2 that a normalised write treats as nothing.
LAMBDA = 1e-3


@dataclass(frozen=True)
class WriteRule:
    """How a layer forms keys, targets and writes."""

    rule: str
    decay: float
    momentum: float
    step: float
    learn_step: bool
    clip: float | None
    keys: str
    centre: bool
    taps: int
    projection: float
    through_writes: bool

    @property
    def associative(self) -> bool:
        """Does no write depend on what is already there?"""
        return self.rule == "hebb" and self.momentum == 0


class Sources:
    """What targets are made of: embeddings, the same for all layers, or the input of each layer's MLP."""

    def __init__(self, *, hidden: bool) -> None:
        self.hidden = hidden
        self.shared_BTD: Tensor | None = None
        self._of_layer: dict[str, Tensor] = {}

    def listen(self, mlp: nn.Module, name: str) -> None:
        if self.hidden:
            mlp.register_forward_pre_hook(partial(self._hear, name))

    def _hear(self, name: str, mlp: nn.Module, args: tuple[Any, ...]) -> None:
        self._of_layer[name] = args[0]

    def take(self, name: str) -> Tensor:
        if not self.hidden:
            assert self.shared_BTD is not None
            return self.shared_BTD
        x_BTD = self._of_layer.pop(name)
        return F.rms_norm(x_BTD, x_BTD.shape[-1:])


@dataclass(frozen=True)
class Writes:
    """Everything that is written and read in one pass, in the grid."""

    q_BNCF: Tensor
    k_BNCF: Tensor
    v_BNCD: Tensor
    pull_BNC: Tensor | None
    steps: Steps


class FastDown(nn.Module):
    """W0 [D, F] with its fast state S [B, D, F]; `desk` says what is being read."""

    def __init__(self, down: nn.Linear, *, name: str, desk: Desk, sources: Sources, rule: WriteRule) -> None:
        super().__init__()
        self.weight = down.weight
        self._name, self._desk, self._sources, self._rule = name, desk, sources, rule
        # Learned on a log scale: a linear one collapses to zero in the first steps of the base, for good.
        learn_step = rule.learn_step and rule.through_writes
        self.log_step = nn.Parameter(torch.tensor(math.log(rule.step)), requires_grad=learn_step)
        conv_OD = torch.zeros(rule.taps, down.out_features)
        conv_OD[rule.taps // 2 + 1] = 1.0
        self.conv_OD = nn.Parameter(conv_OD, requires_grad=rule.through_writes)
        projection_DD = rule.projection * torch.eye(down.out_features)
        self.target_DD = nn.Parameter(projection_DD, requires_grad=rule.through_writes)

    def initial(self) -> FastState:
        width, mlp_width = self.weight.shape
        zeros = partial(torch.zeros, dtype=torch.float32, device=self.weight.device)
        state = {f"{self._name}.memory": zeros(1, width, mlp_width)}
        if self._rule.momentum:
            state[f"{self._name}.momentum"] = zeros(1, width, mlp_width)
        if self._rule.centre:
            state |= {f"{self._name}.key_sum": zeros(1, mlp_width), f"{self._name}.key_count": zeros(1, 1)}
        return state

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        if not self._rule.associative:
            return "chunk after chunk"
        return str(self._choice(-(-length // self._desk.chunk), dtype))

    def _choice(self, chunks: int, dtype: torch.dtype) -> Choice:
        width, mlp_width = self.weight.shape
        return cheapest(chunks, chunk=self._desk.chunk, width=width, mlp_width=mlp_width, dtype=dtype)

    def forward(self, z_BTF: Tensor) -> Tensor:
        now = self._desk.now
        state = now.state(self._name)
        if not now.write:
            now.leave(self._name, state)
            plain_BTD = F.linear(z_BTF, self.weight)
            return plain_BTD if now.blank else plain_BTD + z_BTF @ state["memory"].to(z_BTF.dtype).mT
        z_BNCF, x_BNCD = now.grid.split(z_BTF), now.grid.split(self._sources.take(self._name))
        if not self._rule.through_writes:
            x_BNCD = x_BNCD.detach()
        if now.streaming:
            z_BNCF, x_BNCD, open_ = _with_open_chunk(z_BNCF, x_BNCD, now, state)
            now.leave(self._name, open_)
            if now.grid.num_chunks == 1 and not now.grid.closes_BN.any():
                return self._read_only(z_BTF, now, state)
        writes, sums = self._writes(z_BNCF, x_BNCD, now, state)
        out_BTD, after = self._run(z_BTF, writes, now, state)
        now.leave(self._name, sums | after)
        return out_BTD

    def _read_only(self, z_BTF: Tensor, now: Pass, state: FastState) -> Tensor:
        """Tokens of an open chunk that stays open: nothing is written, one state is read."""
        steps = self._steps(now)
        gate_B11 = steps.gate_BN[:, 0, None, None]
        memory_BDF = gate_B11 * state["memory"]
        kept = {"memory": memory_BDF}
        if "momentum" in state:
            kept["momentum"] = steps.hold_BN[:, 0, None, None] * state["momentum"]
        kept |= {key: gate_B11[:, 0] * state[key] for key in ("key_sum", "key_count") if key in state}
        now.leave(self._name, kept)
        return F.linear(z_BTF, self.weight) + z_BTF @ memory_BDF.to(z_BTF.dtype).mT

    def _steps(self, now: Pass) -> Steps:
        """Decay where a chunk begins; with `reset=sequence`, 0 where a document does."""
        grid = now.grid
        hold_BN = (~now.resets_BN).float()
        gate_BN = torch.where(grid.begins_BN, self._rule.decay, 1.0) * hold_BN
        limit = None if self._rule.clip is None else self._rule.clip * self.weight.detach().float().norm()
        return Steps(gate_BN, hold_BN, grid.closes_BN, self._rule.momentum, limit)

    def _writes(self, z_BNCF: Tensor, x_BNCD: Tensor, now: Pass, state: FastState) -> tuple[Writes, FastState]:
        """Keys, targets and step sizes of every token; and the sums that centring keeps."""
        steps, rule = self._steps(now), self._rule
        k_BNCF = z_BNCF if rule.through_writes else z_BNCF.detach()
        sums: FastState = {}
        if rule.centre:
            mean_BN1F, sums = _mean_of_earlier(k_BNCF, now, steps.gate_BN, state)
            k_BNCF = k_BNCF - mean_BN1F
        scale_BNC1 = self.log_step.exp() * steps.full_BN[..., None, None]
        size_BNC1: Tensor | float = 1.0
        if rule.keys == "l2" or rule.rule == "nlms":
            size_BNC1 = row_norm(k_BNCF)
        if rule.rule == "nlms":
            # With l2 keys |k| is 1 already.
            scale_BNC1 = scale_BNC1 / (LAMBDA + (1.0 if rule.keys == "l2" else size_BNC1**2))
        # Dividing the target by the key's norm is the same as dividing the key, at a fraction of the width.
        by_BNC1 = scale_BNC1 / size_BNC1 if rule.keys == "l2" else scale_BNC1
        v_BNCD = targets(x_BNCD, conv_OD=self.conv_OD, target_DD=self.target_DD, scale_BNC1=by_BNC1)
        if rule.rule == "hebb":
            v_BNCD = _clipped(v_BNCD, k_BNCF, steps) if rule.associative else v_BNCD
            return Writes(z_BNCF, k_BNCF, v_BNCD, None, steps), sums
        # The error is that of the key that is written under: both of its k's are divided.
        pull_BNC = (scale_BNC1 / size_BNC1**2 if rule.keys == "l2" else scale_BNC1).squeeze(-1)
        return Writes(z_BNCF, k_BNCF, v_BNCD, pull_BNC.expand(v_BNCD.shape[:-1]), steps), sums

    def _run(self, z_BTF: Tensor, writes: Writes, now: Pass, state: FastState) -> tuple[Tensor, FastState]:
        """The executor's work: outputs in order, and what is left in memory."""
        lanes = z_BTF.shape[0]
        memory_BDF = state["memory"].expand(lanes, -1, -1)
        inputs = {"k_BNCF": writes.k_BNCF, "v_BNCD": writes.v_BNCD.to(writes.q_BNCF.dtype)}
        if not self._rule.associative:
            momentum_BDF = state.get("momentum", torch.zeros_like(state["memory"])).expand(lanes, -1, -1)
            read_BNCD, (memory_BDF, momentum_BDF) = inplace_steps(
                writes.q_BNCF, **inputs, pull_BNC=writes.pull_BNC, steps=writes.steps, state=(memory_BDF, momentum_BDF)
            )
            after = {"memory": memory_BDF} | ({"momentum": momentum_BDF} if "momentum" in state else {})
            return F.linear(z_BTF, self.weight) + now.grid.join(read_BNCD), after
        choice = self._choice(now.grid.num_chunks, z_BTF.dtype)
        inputs |= {"gate_BN": writes.steps.gate_BN, "state_BDF": memory_BDF}
        folded_DF = self.weight if choice.folded else None
        read_BNCD, memory_BDF = inplace(writes.q_BNCF, **inputs, weight_DF=folded_DF, block=choice.block)
        read_BTD = now.grid.join(read_BNCD)
        return read_BTD if choice.folded else F.linear(z_BTF, self.weight) + read_BTD, {"memory": memory_BDF}


def _with_open_chunk(z_BNCF: Tensor, x_BNCD: Tensor, now: Pass, state: FastState) -> tuple[Tensor, Tensor, FastState]:
    """The grid with the cells that earlier pieces filled; and the cells to keep for the next piece."""
    filled, open_ = [], {}
    token_BNC = now.grid.token_BNC.expand(len(z_BNCF), -1, -1)
    # Cells of the open chunk stand before the first new token of their lane.
    earlier_BC = (token_BNC[:, 0].int().argmax(1, keepdim=True) > torch.arange(now.grid.size, device=z_BNCF.device)) & (
        token_BNC[:, 0].any(1, keepdim=True)
    )
    last_B = token_BNC.any(2).sum(1)
    for key, x_BNCX in (("z", z_BNCF), ("x", x_BNCD)):
        old_BCX = state.get(f"{OPEN}{key}", torch.zeros_like(x_BNCX[:1, 0]))
        first_BCX = torch.where(earlier_BC[..., None], old_BCX, x_BNCX[:, 0])
        x_BNCX = torch.cat([first_BCX[:, None], x_BNCX[:, 1:]], 1)
        filled.append(x_BNCX)
        index_B1CX = (last_B - 1).clamp(min=0).view(-1, 1, 1, 1).expand(-1, 1, *x_BNCX.shape[2:])
        kept_BCX = x_BNCX.gather(1, index_B1CX)[:, 0]
        open_[f"{OPEN}{key}"] = torch.where((last_B > 0)[:, None, None], kept_BCX, old_BCX)
    return filled[0], filled[1], open_


def _mean_of_earlier(z_BNCF: Tensor, now: Pass, gate_BN: Tensor, state: FastState) -> tuple[Tensor, FastState]:
    """[B, N, 1, F]: the mean key of the chunks before each one. Its own chunk would be a leak."""
    full_BN1 = now.grid.closes_BN.unsqueeze(-1).float()
    before, after = [], {}
    sums = {"key_sum": z_BNCF.float().sum(2) * full_BN1, "key_count": now.grid.size * full_BN1}
    for key, delta_BNX in sums.items():
        start_BX = state[key].expand(z_BNCF.shape[0], -1)
        before_BNX, after[key] = gated_scan(delta_BNX, gate_BN=gate_BN, start_BX=start_BX)
        before.append(before_BNX)
    return (before[0] / before[1].clamp(min=1.0)).unsqueeze(2).to(z_BNCF.dtype), after


def _clipped(v_BNCD: Tensor, k_BNCF: Tensor, steps: Steps) -> Tensor:
    """A write's norm from products within its chunk: |sum v k^T|^2 = sum of (V V^T) * (K K^T)."""
    if steps.limit is None:
        return v_BNCD
    wide = torch.promote_types(v_BNCD.dtype, torch.float32)
    v_BNCD, k_BNCF = v_BNCD.to(wide), k_BNCF.to(wide)
    square_BN = ((v_BNCD @ v_BNCD.mT) * (k_BNCF @ k_BNCF.mT)).sum((2, 3)).clamp(min=1e-30)
    return v_BNCD * (steps.limit / square_BN.sqrt()).clamp(max=1.0)[..., None, None]
