"""One down-projection with fast weights: the layer behind `mlp_fast`.

Shapes: B batch (lanes), T time, N chunks, C cells per chunk, D model width, F feed-forward width,
O taps.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import FastState
from ttt.adapters.mlp_writes import Sources, WriteRule, Writes, clip_writes, fill_open_chunk, mean_of_earlier
from ttt.adapters.reading import Desk, Pass
from ttt.kernels.dispatch import inplace, targets
from ttt.kernels.inplace.choice import Choice, cheapest
from ttt.kernels.inplace.rows import row_norm
from ttt.kernels.inplace.steps import ChunkUpdates, inplace_steps

# Added to |k|^2 in a normalised write, so that a key of zero writes nothing instead of dividing.
LAMBDA = 1e-3


class FastDown(nn.Module):
    """W0 [D, F] with its fast state S [B, D, F]; `desk` holds the pass that is being read."""

    def __init__(self, down: nn.Linear, *, name: str, desk: Desk, sources: Sources, rule: WriteRule) -> None:
        super().__init__()
        self.weight = down.weight
        self._name, self._desk, self._sources, self._rule = name, desk, sources, rule
        # Learned on a log scale: a linear one collapses to zero for good in the base's first steps.
        learn_step = rule.learn_step and rule.through_writes
        self.log_step = nn.Parameter(torch.tensor(math.log(rule.step)), requires_grad=learn_step)
        # One tap beyond the middle: at the start the target of a token is the next token.
        conv_OD = torch.zeros(rule.taps, down.out_features)
        conv_OD[rule.taps // 2 + 1] = 1.0
        self.conv_OD = nn.Parameter(conv_OD, requires_grad=rule.through_writes)
        projection_DD = rule.projection * torch.eye(down.out_features)
        self.target_DD = nn.Parameter(projection_DD, requires_grad=rule.through_writes)

    def initial(self) -> FastState:
        width, mlp_width = self.weight.shape
        # Sums of thousands of writes: fp32, whatever the precision of the weights.
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
            z_BNCF, x_BNCD, rest = fill_open_chunk(z_BNCF, x_BNCD, now, state)
            now.leave(self._name, rest)
            if now.grid.num_chunks == 1 and not now.grid.closes_BN.any():
                return self._read_only(z_BTF, now, state)
        writes, sums = self._writes(z_BNCF, x_BNCD, now, state)
        out_BTD, after = self._run(z_BTF, writes, now, state)
        now.leave(self._name, sums | after)
        return out_BTD

    def _read_only(self, z_BTF: Tensor, now: Pass, state: FastState) -> Tensor:
        """Read a piece whose chunk stays open: nothing is written, and one state serves all tokens.

        Most tokens are decoded here. Decay and resets still apply where the chunk begins.
        """
        steps = self._steps(now)
        gate_B11 = steps.gate_BN[:, 0, None, None]
        memory_BDF = gate_B11 * state["memory"]
        after = {"memory": memory_BDF}
        if "momentum" in state:
            after["momentum"] = steps.hold_BN[:, 0, None, None] * state["momentum"]
        after |= {key: gate_B11[:, 0] * state[key] for key in ("key_sum", "key_count") if key in state}
        now.leave(self._name, after)
        return F.linear(z_BTF, self.weight) + z_BTF @ memory_BDF.to(z_BTF.dtype).mT

    def _steps(self, now: Pass) -> ChunkUpdates:
        """Decay where a chunk begins; with `reset=sequence`, 0 where a document does."""
        grid = now.grid
        hold_BN = (~now.resets_BN).float()
        gate_BN = torch.where(grid.begins_BN, self._rule.decay, 1.0) * hold_BN
        limit = None if self._rule.clip is None else self._rule.clip * self.weight.detach().float().norm()
        return ChunkUpdates(gate_BN, hold_BN, grid.closes_BN, self._rule.momentum, limit)

    def _writes(self, z_BNCF: Tensor, x_BNCD: Tensor, now: Pass, state: FastState) -> tuple[Writes, FastState]:
        """Keys, targets and step sizes of every token, and the sums that centring keeps."""
        steps, rule = self._steps(now), self._rule
        k_BNCF = z_BNCF if rule.through_writes else z_BNCF.detach()
        sums: FastState = {}
        if rule.centre:
            mean_BN1F, sums = mean_of_earlier(k_BNCF, now, steps.gate_BN, state)
            k_BNCF = k_BNCF - mean_BN1F
        scale_BNC1 = self.log_step.exp() * steps.full_BN[..., None, None]
        size_BNC1: Tensor | float = 1.0
        if rule.keys == "l2" or rule.rule == "nlms":
            size_BNC1 = row_norm(k_BNCF)
        if rule.rule == "nlms":
            # With l2 keys |k| is 1 already.
            scale_BNC1 = scale_BNC1 / (LAMBDA + (1.0 if rule.keys == "l2" else size_BNC1**2))
        # A write is the product v k^T: dividing the target by |k| has the same effect as dividing
        # the key, at a fraction of the width.
        by_BNC1 = scale_BNC1 / size_BNC1 if rule.keys == "l2" else scale_BNC1
        v_BNCD = targets(x_BNCD, conv_OD=self.conv_OD, target_DD=self.target_DD, scale_BNC1=by_BNC1)
        if rule.rule == "hebb":
            v_BNCD = clip_writes(v_BNCD, k_BNCF, steps) if rule.associative else v_BNCD
            return Writes(z_BNCF, k_BNCF, v_BNCD, None, steps), sums
        # S k k^T holds the key twice, so both factors are divided by |k|.
        pull_BNC = (scale_BNC1 / size_BNC1**2 if rule.keys == "l2" else scale_BNC1).squeeze(-1)
        return Writes(z_BNCF, k_BNCF, v_BNCD, pull_BNC.expand(v_BNCD.shape[:-1]), steps), sums

    def _run(self, z_BTF: Tensor, writes: Writes, now: Pass, state: FastState) -> tuple[Tensor, FastState]:
        """Outputs [B, T, D] in order, and the state after the pass."""
        if not self._rule.associative:
            return self._run_in_order(z_BTF, writes, now, state)
        choice = self._choice(now.grid.num_chunks, z_BTF.dtype)
        read_BNCD, memory_BDF = inplace(
            writes.q_BNCF,
            k_BNCF=writes.k_BNCF,
            v_BNCD=writes.v_BNCD.to(writes.q_BNCF.dtype),
            gate_BN=writes.steps.gate_BN,
            state_BDF=state["memory"].expand(len(z_BTF), -1, -1),
            weight_DF=self.weight if choice.folded else None,
            block=choice.block,
        )
        # A folded executor has W0 z in its product already.
        read_BTD = now.grid.join(read_BNCD)
        return read_BTD if choice.folded else F.linear(z_BTF, self.weight) + read_BTD, {"memory": memory_BDF}

    def _run_in_order(self, z_BTF: Tensor, writes: Writes, now: Pass, state: FastState) -> tuple[Tensor, FastState]:
        """The same for writes that depend on what is already written: chunk after chunk."""
        lanes = len(z_BTF)
        momentum_BDF = state.get("momentum", torch.zeros_like(state["memory"])).expand(lanes, -1, -1)
        read_BNCD, (memory_BDF, momentum_BDF) = inplace_steps(
            writes.q_BNCF,
            k_BNCF=writes.k_BNCF,
            v_BNCD=writes.v_BNCD.to(writes.q_BNCF.dtype),
            pull_BNC=writes.pull_BNC,
            updates=writes.steps,
            state=(state["memory"].expand(lanes, -1, -1), momentum_BDF),
        )
        after = {"memory": memory_BDF} | ({"momentum": momentum_BDF} if "momentum" in state else {})
        return F.linear(z_BTF, self.weight) + now.grid.join(read_BNCD), after
