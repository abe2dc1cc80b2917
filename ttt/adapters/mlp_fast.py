"""`mlp_fast`: an MLP's down-projection that is written while the model reads.

    o_t = (W0 + S_n) z_t          token t of chunk n reads the state from before its chunk
    S  <- decay * S + eta * sum over the chunk of v_t k_t^T
    k_t = z_t / |z_t|             v_t = W_t conv(rms_norm(embedding))_t: by its start, the next token

In-Place Test-Time Training (arXiv 2604.06169); kernels/inplace.py holds the recurrence. The keys' norm,
the decay and the learned eta are ours: docs/decisions.md says on what evidence.
Shapes: B batch (lanes), T time, N chunks, C tokens a chunk, D model width, F feed-forward width, O taps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import RESETS, FastState, Reset, down_projections, next_state
from ttt.kernels.chunks import ChunkGrid, chunk_grid
from ttt.kernels.inplace import cheaper_form
from ttt.kernels.scan import gated_scan
from ttt.stream import Batch

KEYS = ("l2", "raw")
CARRIES = ("mean", "lane")


@dataclass(frozen=True)
class WriteRule:
    """How a layer forms keys, targets and steps."""

    step: float
    learn_step: bool
    keys: str
    centre: bool
    taps: int
    projection: float


@dataclass
class Reading:
    """One pass over one batch: what the layers need beside their input, and the state they leave."""

    x_BNCX: Tensor | None
    grid: ChunkGrid
    gate_BN: Tensor
    before: FastState
    write: bool
    after: FastState = field(default_factory=dict)


class MlpFast:
    """Arguments are explained in conf/adapter/mlp_fast.yaml."""

    def __init__(
        self,
        *,
        name: str,
        seq_len: int,
        chunk: int,
        reset: Reset,
        carry: str,
        decay: float,
        step: float,
        learn_step: bool,
        keys: str,
        centre: bool,
        taps: int,
        projection: float,
    ) -> None:
        _check(chunk=chunk, seq_len=seq_len, reset=reset, carry=carry, decay=decay, keys=keys, taps=taps)
        if step <= 0:
            raise ValueError(f"adapter.step={step:g}: must be above 0")
        self.name = name
        self.reset: Reset = reset
        self._chunk, self._carry, self._decay = chunk, carry, decay
        self._rule = WriteRule(
            step=step, learn_step=learn_step, keys=keys, centre=centre, taps=taps, projection=projection
        )
        self.reading_now: Reading | None = None
        self._layers: dict[str, FastDown] = {}

    def attach(self, model: nn.Module) -> None:
        self._embedding: nn.Embedding = model.get_input_embeddings()  # type: ignore[operator]
        for name, mlp, down in list(down_projections(model)):
            layer = FastDown(down, name=name, owner=self, rule=self._rule)
            mlp.down_proj = layer
            self._layers[name] = layer
        if not self._layers:
            raise ValueError("adapter=mlp_fast: the model has no gated MLP (no module named down_proj)")

    def initial(self) -> FastState:
        return {key: tensor for layer in self._layers.values() for key, tensor in layer.initial().items()}

    @contextmanager
    def reading(self, batch: Batch, state: FastState, *, write: bool) -> Iterator[FastState]:
        grid = chunk_grid(batch.segment_BT, self._chunk)
        # Targets are made of embeddings, the same for every layer; without writes nobody needs them.
        x_BNCX = self._around(batch.tokens_BT, grid) if write else None
        self.reading_now = Reading(x_BNCX, grid, self._gates(grid), state, write)
        try:
            yield self.reading_now.after
        finally:
            self.reading_now = None

    def _around(self, tokens_BT: Tensor, grid: ChunkGrid) -> Tensor:
        embed_BTD = self._embedding(tokens_BT)
        x_BTD = working_precision(F.rms_norm(embed_BTD, embed_BTD.shape[-1:]))
        return neighbours(grid.split(x_BTD), self._rule.taps)

    def _gates(self, grid: ChunkGrid) -> Tensor:
        """Decay between chunks; with `reset=sequence`, 0 where a document opens behind another."""
        gate_BN = torch.full(grid.opens_BN.shape, self._decay, device=grid.opens_BN.device)
        if self.reset == "sequence":
            gate_BN = gate_BN.masked_fill(grid.opens_BN, 0.0)
        return gate_BN

    def carry(self, state: FastState) -> FastState:
        return next_state(state, per_lane=self._carry == "lane")

    def diagnostics(self, state: FastState) -> dict[str, float]:
        numbers = {}
        for name, layer in self._layers.items():
            norm = state[f"{name}.memory"].norm(dim=(-2, -1)).mean() / layer.weight.detach().norm()
            numbers[f"{name}.state_over_w0"] = float(norm)
            numbers[f"{name}.step"] = float(layer.log_step.detach().exp())
        return numbers


class FastDown(nn.Module):
    """One down-projection W0 [D, F] with its fast state S [B, D, F]; `owner` says what is being read."""

    def __init__(self, down: nn.Linear, *, name: str, owner: MlpFast, rule: WriteRule) -> None:
        super().__init__()
        self.weight = down.weight
        self._name, self._owner, self._rule = name, owner, rule
        # Learned on a log scale: a linear one collapses to zero in the first steps of the base, for good.
        self.log_step = nn.Parameter(torch.tensor(math.log(rule.step)), requires_grad=rule.learn_step)
        conv_OD = torch.zeros(rule.taps, down.out_features)
        conv_OD[rule.taps // 2 + 1] = 1.0
        self.conv_OD = nn.Parameter(conv_OD)
        self.target_DD = nn.Parameter(rule.projection * torch.eye(down.out_features))

    def initial(self) -> FastState:
        width, mlp_width = self.weight.shape
        zeros = partial(torch.zeros, dtype=torch.float32, device=self.weight.device)
        state = {f"{self._name}.memory": zeros(1, width, mlp_width)}
        if self._rule.centre:
            state |= {f"{self._name}.key_sum": zeros(1, mlp_width), f"{self._name}.key_count": zeros(1, 1)}
        return state

    def forward(self, z_BTF: Tensor) -> Tensor:
        reading = self._owner.reading_now
        assert reading is not None, "the model must be called inside adapter.reading(...)"
        before = {key: x for key, x in reading.before.items() if key.startswith(f"{self._name}.")}
        memory_BDF = before[f"{self._name}.memory"]
        if not reading.write:
            reading.after.update(before)
            if not memory_BDF.any():
                return F.linear(z_BTF, self.weight)
            return F.linear(z_BTF, self.weight) + z_BTF @ memory_BDF.to(z_BTF.dtype).transpose(-1, -2)
        assert reading.x_BNCX is not None
        grid = reading.grid
        z_BNCF = grid.split(z_BTF)
        k_BNCF, size_BNC1 = self._keys(z_BNCF, reading)
        weight_XD = (self.conv_OD[..., None] * self.target_DD).flatten(0, 1)
        # Dividing the target by the key's norm is the same as dividing the key, at a fraction of the width.
        v_BNCD = (reading.x_BNCX @ weight_XD) * (
            self.log_step.exp() * reading.grid.full_BN[..., None, None] / size_BNC1
        )
        form = cheaper_form(grid.length, width=v_BNCD.shape[-1], mlp_width=z_BTF.shape[-1])
        read_BNCD, after_BDF = form(
            z_BNCF,
            k_BNCF=k_BNCF,
            v_BNCD=v_BNCD,
            gate_BN=reading.gate_BN,
            state_BDF=memory_BDF.expand(z_BTF.shape[0], -1, -1),
        )
        reading.after[f"{self._name}.memory"] = after_BDF
        return F.linear(z_BTF, self.weight) + grid.join(read_BNCD)

    def _keys(self, z_BNCF: Tensor, reading: Reading) -> tuple[Tensor, Tensor | float]:
        """Keys to write under and the size to divide them by."""
        k_BNCF = z_BNCF
        if self._rule.centre:
            k_BNCF = k_BNCF - self._mean_of_earlier(z_BNCF, reading)
        if self._rule.keys == "raw":
            return k_BNCF, 1.0
        return k_BNCF, torch.linalg.vector_norm(
            k_BNCF, dim=-1, keepdim=True, dtype=torch.promote_types(k_BNCF.dtype, torch.float32)
        ).clamp(min=1e-6)

    def _mean_of_earlier(self, z_BNCF: Tensor, reading: Reading) -> Tensor:
        """[B, N, 1, F]: the mean key of the chunks before each one. Its own chunk would be a leak."""
        full_BN1 = reading.grid.full_BN.unsqueeze(-1)
        before = []
        sums = {"key_sum": z_BNCF.float().sum(2) * full_BN1, "key_count": reading.grid.size * full_BN1.float()}
        for key, delta_BNX in sums.items():
            start_BX = reading.before[f"{self._name}.{key}"].expand(z_BNCF.shape[0], -1)
            before_BNX, after_BX = gated_scan(delta_BNX, gate_BN=reading.gate_BN, start_BX=start_BX)
            before.append(before_BNX)
            reading.after[f"{self._name}.{key}"] = after_BX
        return (before[0] / before[1].clamp(min=1.0)).unsqueeze(2)


def working_precision(x: Tensor) -> Tensor:
    """Cast once to what autocast would cast to in every layer."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def neighbours(x_BNCD: Tensor, taps: int) -> Tensor:
    """[B, N, C, taps * D]: every token with those around it; beyond the edge of its chunk are zeros."""
    half, size = taps // 2, x_BNCD.shape[2]
    padded_BNCD = F.pad(x_BNCD, (0, 0, half, half))
    return torch.cat([padded_BNCD[:, :, o : o + size] for o in range(taps)], dim=-1)


def _check(*, chunk: int, seq_len: int, reset: str, carry: str, decay: float, keys: str, taps: int) -> None:
    """Refuse what cannot work, in the user's words."""
    if not 1 <= chunk < seq_len:
        raise ValueError(
            f"adapter.chunk={chunk}: must lie between 1 and task.seq_len - 1 = {seq_len - 1}; what the last "
            "chunk of a sequence writes is never read, so one chunk would mean no fast weights at all"
        )
    for argument, value, allowed in (("reset", reset, RESETS), ("carry", carry, CARRIES), ("keys", keys, KEYS)):
        if value not in allowed:
            raise ValueError(f"adapter.{argument}={value}: must be one of {', '.join(allowed)}")
    if not 0 <= decay <= 1:
        raise ValueError(f"adapter.decay={decay}: must lie between 0 (forget at once) and 1 (keep all)")
    if taps < 3 or taps % 2 == 0:
        raise ValueError(f"adapter.taps={taps}: must be odd and at least 3, to reach the next token")
