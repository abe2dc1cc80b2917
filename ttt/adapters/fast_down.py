"""One down-projection with fast weights: the layer behind `mlp_fast`.

Shapes: B batch (lanes), T time, N chunks, C cells per chunk, D model width, F feed-forward width,
O taps.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import OPEN, FastState
from ttt.adapters.mlp_desk import MlpDesk, WritePass
from ttt.adapters.mlp_late import add_start, no_start, starts_late
from ttt.adapters.mlp_open import DecodePass, after_open_documents, fill_open_chunk
from ttt.adapters.mlp_rule import TargetStart, WriteRule
from ttt.adapters.mlp_sources import Sources
from ttt.adapters.mlp_writes import Writes, bounded, mean_of_earlier, sizes_of
from ttt.kernels.dispatch import inplace, targets
from ttt.kernels.inplace.choice import Choice, cheapest
from ttt.kernels.inplace.norms import row_scale
from ttt.kernels.inplace.steps import ChunkUpdates, RowNorms, inplace_steps

# The standard deviation of a random diagonal, and the seed by which all layers draw the same one.
DIAGONAL_STD, DIAGONAL_SEED = 0.02, 0


class FastDown(nn.Module):
    """W0 [D, F] with its fast state S [B, D, F]; `desk` holds the pass that is being read."""

    def __init__(self, down: nn.Linear, *, name: str, desk: MlpDesk, sources: Sources, start: TargetStart) -> None:
        super().__init__()
        self.weight, self.bias = down.weight, down.bias
        self._name, self._desk, self._sources = name, desk, sources
        # Learned on a log scale: a linear one collapses to zero for good in the base's first steps.
        learn_step, learn_conv = start.learn_step and start.learns, start.target == "conv" and start.learns
        self.log_step = nn.Parameter(torch.tensor(math.log(start.step)), requires_grad=learn_step)
        conv_OD = torch.zeros(start.taps if start.target == "conv" else 3, down.out_features)
        if start.start != "conv_zero":
            # One tap beyond the middle: at the start the target of a token is the next token.
            conv_OD[len(conv_OD) // 2 + (start.target != "same")] = 1.0
        self.conv_OD = nn.Parameter(conv_OD, requires_grad=learn_conv)
        projection_DD, learn_projection = first_projection(start, down.out_features), start.learn_projection
        self.target_DD = nn.Parameter(projection_DD, requires_grad=learn_projection and start.learns)
        self.gain = nn.Parameter(torch.zeros(()), requires_grad=start.learns) if start.start == "step_zero" else None
        # Read in one product with S, chunk by chunk, W0 z is rounded unlike in the plain model.
        self._may_fold = start.start == "next"

    def initial(self, rule: WriteRule) -> FastState:
        width, mlp_width = self.weight.shape
        # Sums of thousands of writes: fp32, whatever the precision of the weights.
        zeros = partial(torch.zeros, dtype=torch.float32, device=self.weight.device)
        state = {f"{self._name}.memory": zeros(1, width, mlp_width)}
        if rule.momentum:
            state[f"{self._name}.momentum"] = zeros(1, width, mlp_width)
        if rule.centre:
            state |= {f"{self._name}.key_sum": zeros(1, mlp_width), f"{self._name}.key_count": zeros(1, 1)}
        return state

    def step(self) -> Tensor:
        """The learned step size."""
        step = self.log_step.exp()
        return step if self.gain is None else self.gain * step

    def executor(self, rule: WriteRule, *, length: int, dtype: torch.dtype) -> str:
        if not rule.associative:
            return "chunk after chunk"
        chunk = length if rule.write_at == "document" else rule.chunk
        return str(self._choice(-(-length // chunk), chunk, dtype))

    def _choice(self, chunks: int, chunk: int, dtype: torch.dtype) -> Choice:
        width, mlp_width = self.weight.shape
        choice = cheapest(chunks, chunk=chunk, width=width, mlp_width=mlp_width, dtype=dtype)
        return choice if self._may_fold else replace(choice, folded=False)

    def forward(self, z_BTF: Tensor) -> Tensor:
        decoding = self._desk.decoding
        if decoding is None:
            out_BTD = self._fast(z_BTF)
            self._desk.writing.now.hand_on(self._name)
        else:
            out_BTD = self._decode(z_BTF, decoding)
        return out_BTD if self.bias is None else out_BTD + self.bias

    def _fast(self, z_BTF: Tensor) -> Tensor:
        """(W0 + S) z, and the state after the pass."""
        writing = self._desk.writing
        now, rule, length = writing.now, writing.rule, z_BTF.shape[1]
        late = starts_late(writing)
        state = no_start(now.before[f"{self._name}.memory"]) if late else now.state(self._name)
        if not writing.writes:
            now.leave(self._name, state)
            return F.linear(z_BTF, self.weight) if now.blank else self._read(z_BTF, state["memory"], rule)
        x_BTD = self._sources.take(self._name)
        if writing.open_from is not None:
            z_BTF, x_BTD, rest = after_open_documents(z_BTF, x_BTD, state, open_from=writing.open_from)
            now.leave(self._name, rest)
        z_BNCF, x_BNCD = now.grid.split(z_BTF), now.grid.split(x_BTD)
        if not rule.through_writes:
            x_BNCD = x_BNCD.detach()
        if now.streaming:
            if writing.open_from is None:
                z_BNCF, x_BNCD, rest = fill_open_chunk(z_BNCF, x_BNCD, now, state)
                now.leave(self._name, rest)
            if now.grid.num_chunks == 1 and not writing.full_BN.any():
                return self._read_only(z_BTF[:, -length:], writing, state)
        writes, sums = self._writes(z_BNCF, x_BNCD, writing, state)
        out_BTD, after = self._run(z_BTF, writes, writing, state)
        if late:
            start_BDF = now.state(self._name)["memory"]
            out_BTD, after = add_start(out_BTD, after, z_BTF=z_BTF, start_BDF=start_BDF, writing=writing)
        now.leave(self._name, sums | after)
        return out_BTD if writing.open_from is None else out_BTD[:, -length:]

    def _read(self, z_BTF: Tensor, memory_BDF: Tensor, rule: WriteRule) -> Tensor:
        """Read one state for all tokens."""
        read_BTD = F.linear(z_BTF, self.weight) + z_BTF @ memory_BDF.to(z_BTF.dtype).mT
        if rule.norm == "rows":
            read_BTD = read_BTD * row_scale(self.weight, memory_BDF).unsqueeze(1).to(read_BTD.dtype)
        return read_BTD

    def _decode(self, z_B1F: Tensor, decoding: DecodePass) -> Tensor:
        """Read for one token, and put it into the open chunk; write that where it is full."""
        z_BCF = decoding.put(f"{OPEN}{self._name}.z", z_B1F)
        x_BCD = decoding.put(f"{OPEN}{self._name}.x", self._sources.take(self._name))
        memory_BDF = decoding.after[f"{self._name}.memory"]
        if decoding.closes:
            state = {name.removeprefix(f"{self._name}."): x for name, x in decoding.after.items()}
            writes, sums = self._writes(z_BCF[:, None], x_BCD[:, None], self._desk.writing, state)
            after = sums | {"memory": _written(memory_BDF.expand(len(z_BCF), -1, -1), writes)}
            decoding.after.update({f"{self._name}.{key}": x for key, x in after.items()})
        return self._read(z_B1F, memory_BDF, decoding.rule)

    def _read_only(self, z_BTF: Tensor, writing: WritePass, state: FastState) -> Tensor:
        """Read a piece whose chunk stays open: nothing is written, and one state serves all tokens.

        Decay and resets still apply where the chunk begins.
        """
        gate_B11 = writing.gate_BN[:, 0, None, None]
        memory_BDF = gate_B11 * state["memory"]
        after = {"memory": memory_BDF}
        if "momentum" in state:
            after["momentum"] = writing.hold_BN[:, 0, None, None] * state["momentum"]
        after |= {key: gate_B11[:, 0] * state[key] for key in ("key_sum", "key_count") if key in state}
        writing.now.leave(self._name, after)
        return self._read(z_BTF, memory_BDF, writing.rule)

    def _steps(self, writing: WritePass, step: Tensor | float) -> ChunkUpdates:
        """Decay where a chunk begins; with `reset=sequence`, 0 where a document does."""
        rule = writing.rule
        limit = None if rule.clip is None else rule.clip * self.weight.detach().float().norm()
        return ChunkUpdates(
            writing.gate_BN, writing.hold_BN, writing.full_BN, rule.momentum, limit,
            ridge=rule.ridge if rule.rule == "ridge" else None, spectral=rule.norm == "spectral", size=step,
        )  # fmt: skip

    def _writes(self, z_BNCF: Tensor, x_BNCD: Tensor, writing: WritePass, state: FastState) -> tuple[Writes, FastState]:
        """Keys, targets and step sizes of every token, and the sums that centring keeps."""
        rule = writing.rule
        step = self.step() if rule.fixed_step is None else rule.fixed_step
        steps = self._steps(writing, step)
        k_BNCF = z_BNCF if rule.through_writes else z_BNCF.detach()
        sums: FastState = {}
        if rule.centre:
            mean_BN1F, sums = mean_of_earlier(k_BNCF, writing, state)
            k_BNCF = k_BNCF - mean_BN1F
        sizes = sizes_of(k_BNCF, step, writing)
        if sizes.key_BNC1 is not None:
            k_BNCF = k_BNCF * sizes.key_BNC1.to(k_BNCF.dtype)
        v_BNCD = targets(x_BNCD, conv_OD=self.conv_OD, target_DD=self.target_DD, scale_BNC1=sizes.target_BNC1)
        if rule.rule == "hebb":
            v_BNCD = bounded(v_BNCD, k_BNCF, steps) if rule.associative else v_BNCD
            return Writes(z_BNCF, k_BNCF, v_BNCD, None, steps), sums
        if rule.rule in ("delta_whole", "ridge"):
            weight_DF = self.weight if rule.through_writes else self.weight.detach()
            v_BNCD = v_BNCD - sizes.pull_BNC1 * F.linear(k_BNCF, weight_DF)
        return Writes(z_BNCF, k_BNCF, v_BNCD, sizes.pull_BNC1.squeeze(-1).expand(v_BNCD.shape[:-1]), steps), sums

    def _run(self, z_BTF: Tensor, writes: Writes, writing: WritePass, state: FastState) -> tuple[Tensor, FastState]:
        """Outputs [B, T, D] in order, and the state after the pass."""
        grid = writing.now.grid
        if not writing.rule.associative:
            return self._run_in_order(z_BTF, writes, writing, state)
        choice = self._choice(grid.num_chunks, grid.size, z_BTF.dtype)
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
        read_BTD = grid.join(read_BNCD)
        return read_BTD if choice.folded else F.linear(z_BTF, self.weight) + read_BTD, {"memory": memory_BDF}

    def _run_in_order(
        self, z_BTF: Tensor, writes: Writes, writing: WritePass, state: FastState
    ) -> tuple[Tensor, FastState]:
        """The same for writes that depend on what is already written: chunk after chunk."""
        lanes, grid = len(z_BTF), writing.now.grid
        plain_BTD = F.linear(z_BTF, self.weight)
        momentum_BDF = state.get("momentum", torch.zeros_like(state["memory"])).expand(lanes, -1, -1)
        rows = RowNorms(self.weight, grid.split(plain_BTD)) if writing.rule.norm == "rows" else None
        read_BNCD, (memory_BDF, momentum_BDF) = inplace_steps(
            writes.q_BNCF,
            k_BNCF=writes.k_BNCF,
            v_BNCD=writes.v_BNCD.to(writes.q_BNCF.dtype),
            pull_BNC=writes.pull_BNC,
            updates=writes.steps,
            state=(state["memory"].expand(lanes, -1, -1), momentum_BDF),
            rows=rows,
        )
        after = {"memory": memory_BDF} | ({"momentum": momentum_BDF} if "momentum" in state else {})
        read_BTD = grid.join(read_BNCD)
        # With norms of rows, W0 z is part of what was read.
        return read_BTD if rows is not None else plain_BTD + read_BTD, after


def _written(memory_BDF: Tensor, writes: Writes) -> Tensor:
    """The memory after one chunk, S + V^T K, where nobody reads on the way."""
    # Not in half precision: thousands of writes add up.
    wide = torch.promote_types(memory_BDF.dtype, writes.k_BNCF.dtype)
    before_BDF, v_BCD, k_BCF = (x.to(wide) for x in (memory_BDF, writes.v_BNCD[:, 0], writes.k_BNCF[:, 0]))
    with torch.autocast(memory_BDF.device.type, enabled=False):
        return torch.baddbmm(before_BDF, v_BCD.mT, k_BCF).to(memory_BDF.dtype)


def first_projection(start: TargetStart, width: int) -> Tensor:
    """The projection of targets before anything is learned, [D, D]."""
    if start.projection != "diagonal":
        return start.projection * torch.eye(width)
    # Drawn apart from the run's random numbers, and alike in every layer, as in the official code.
    generator = torch.Generator().manual_seed(DIAGONAL_SEED)
    return torch.diag(DIAGONAL_STD * torch.randn(width, generator=generator))
