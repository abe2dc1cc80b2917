"""`mlp_fast`: an MLP's down-projection that is written while the model reads.

    o_t = (W0 + S_n) z_t          token t of chunk n reads the state from before its chunk
    S  <- decay * (S + eta * sum over the chunk of v_t k_t^T), as the next chunk begins
    k_t = z_t / |z_t|             v_t = W_t conv(rms_norm(embedding))_t; at first, the next token

In-Place Test-Time Training (arXiv 2604.06169); kernels/inplace/ holds the recurrence. The keys'
norm, the decay and the learned eta are ours: docs/decisions.md gives the evidence. Other rules
(error correction, momentum, clipping) are in kernels/inplace/steps.py.
Shapes: B batch (lanes), T time, V vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from ttt.adapters.base import Carry, FastState, Lifetime, Reset, RunsOn
from ttt.adapters.fast_down import FastDown
from ttt.adapters.layers import check_chunk, down_projections, pick_layers
from ttt.adapters.mlp_writes import Sources, WriteRule
from ttt.adapters.reading import Desk
from ttt.models.cache import Cache
from ttt.stream import Batch


class MlpFast:
    """Arguments are explained in conf/adapter/mlp_fast.yaml."""

    runs_on: RunsOn = "any"

    def __init__(
        self,
        *,
        name: str,
        seq_len: int,
        chunk: Annotated[int, Ge(1)],
        reset: Reset,
        carry: Carry,
        test_writes: bool,
        layers: list[int] | None,
        rule: Literal["hebb", "delta", "nlms"],
        decay: Annotated[float, Interval(ge=0, le=1)],
        momentum: Annotated[float, Interval(ge=0, lt=1)],
        step: Annotated[float, Gt(0)],
        learn_step: bool,
        clip: Annotated[float, Gt(0)] | None,
        keys: Literal["l2", "raw"],
        centre: bool,
        source: Literal["embeddings", "hidden"],
        taps: Annotated[int, Ge(3)],
        projection: float,
        through_writes: bool,
    ) -> None:
        check_chunk(chunk, seq_len=seq_len)
        if taps % 2 == 0:
            raise ValueError(f"adapter.taps={taps}: must be odd, with as many tokens before as after")
        self.name, self.reset = name, reset
        # Not thin: an open chunk needs its cells, because its targets mix neighbouring tokens.
        self._desk = Desk(chunk=chunk, lifetime=Lifetime(reset, carry), thin=False)
        self._only, self._test_writes = layers, test_writes
        self._rule = WriteRule(
            rule=rule, decay=decay, momentum=momentum, step=step, learn_step=learn_step, clip=clip, keys=keys,
            centre=centre, taps=taps, projection=projection, through_writes=through_writes,
        )  # fmt: skip
        self._sources = Sources(hidden=source == "hidden")
        self._layers: dict[str, FastDown] = {}

    def attach(self, model: nn.Module) -> None:
        self._embedding: nn.Embedding = model.get_input_embeddings()  # type: ignore[operator]
        for name, mlp, down in pick_layers(list(down_projections(model)), self._only):
            layer = FastDown(down, name=name, desk=self._desk, sources=self._sources, rule=self._rule)
            self._sources.listen(mlp, name)
            # W0 keeps its name, `down_proj.weight`, so that weights of the plain model still fit.
            mlp.down_proj = layer
            self._layers[name] = layer
        if not self._layers:
            raise ValueError(f"adapter={self.name}: the model has no gated MLP (no module named down_proj)")

    def initial(self) -> FastState:
        return {key: tensor for layer in self._layers.values() for key, tensor in layer.initial().items()}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        write = write and (self._test_writes or model.training)
        with self._desk.reading(batch, state, write=write, streaming=cache is not None) as now:
            if write and not self._sources.hidden:
                # Targets are made of embeddings, the same for every layer; only writes need them.
                embed_BTD = self._embedding(batch.tokens_BT)
                self._sources.shared_BTD = working_precision(F.rms_norm(embed_BTD, embed_BTD.shape[-1:]))
            logits_BTV = model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache)
        return logits_BTV, now.after

    def carry(self, state: FastState) -> FastState:
        return self._desk.lifetime.next(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """|S| / |W0| (mean over lanes) and the step size of each layer."""
        numbers = {}
        for name, layer in self._layers.items():
            norm = state[f"{name}.memory"].norm(dim=(-2, -1)).mean() / layer.weight.detach().norm()
            numbers[f"{name}.state_over_w0"] = float(norm)
            numbers[f"{name}.step"] = float(layer.log_step.detach().exp())
        return numbers

    def additive(self) -> Sequence[tuple[Tensor, str]]:
        return [(layer.weight, f"{name}.memory") for name, layer in self._layers.items()]

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return next(iter(self._layers.values())).executor(length=length, dtype=dtype)


def working_precision(x: Tensor) -> Tensor:
    """Cast once to the precision to which autocast would cast in every layer."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
