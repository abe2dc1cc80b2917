"""`mlp_fast`: an MLP's down-projection that is written while the model reads.

    o_t = (W0 + S_n) z_t          token t of chunk n reads the state from before its chunk
    S  <- decay * (S + eta * sum over the chunk of v_t k_t^T), as the next chunk begins
    k_t = z_t / |z_t|             v_t = W_t conv(rms_norm(embedding))_t; at first, the next token

In-Place Test-Time Training (arXiv 2604.06169); kernels/inplace/ holds the recurrence. The keys'
norm, the decay and the learned eta are ours: docs/decisions.md gives the evidence. Other rules
(error correction, ridge fits, momentum, clipping, norms) are in kernels/inplace/steps.py. Two
published methods are settings of this class: conf/adapter/in_place_official.yaml and ttt_ntp.yaml.
Shapes: B batch (lanes), T time, V vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from ttt.adapters.base import Carry, FastState, Lifetime, Reset, RunsOn
from ttt.adapters.fast_down import FastDown
from ttt.adapters.layers import LayerChoice, down_projections, pick_layers
from ttt.adapters.mlp_desk import MlpDesk
from ttt.adapters.mlp_rule import (
    RuleName,
    TargetName,
    TargetStart,
    WriteAt,
    WriteRule,
    check_rule,
    check_start,
    check_test,
)
from ttt.adapters.mlp_sources import SourceName, Sources
from ttt.models.cache import Cache
from ttt.stream import Batch

Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


class MlpFast:
    """Arguments are explained in conf/adapter/mlp_fast.yaml."""

    runs_on: RunsOn = "any"
    passes_logits = True

    def __init__(
        self, *, name: str, seq_len: int, layers: LayerChoice, reset: Reset, carry: Carry,
        write_at: WriteAt, chunk: Count, prompt: Count,
        rule: RuleName, ridge: Positive, most_tokens: Count, norm: Literal["rows", "spectral"] | None,
        decay: Annotated[float, Interval(ge=0, le=1)], momentum: Annotated[float, Interval(ge=0, lt=1)],
        step: Positive, learn_step: bool, clip: Positive | None, keys: Literal["l2", "raw"], centre: bool,
        source: SourceName, target: TargetName, taps: Annotated[int, Ge(3)],
        projection: float | Literal["diagonal"], learn_projection: bool,
        start: Literal["next", "conv_zero", "step_zero"], through_writes: bool,
        test_writes: bool, test_rule: RuleName | None, test_write_at: WriteAt | None,
        test_step: Positive | None, test_clip: Positive | None,
    ) -> None:  # fmt: skip
        self.name, self.reset = name, reset
        self._only, self._test_writes = layers, test_writes
        self._start = TargetStart(target, start, taps, projection, learn_projection, step, learn_step, through_writes)
        train = WriteRule(
            rule=rule, write_at=write_at, chunk=prompt if write_at == "prompt" else chunk, most_tokens=most_tokens,
            ridge=ridge, norm=norm, decay=decay, momentum=momentum, fixed_step=None, clip=clip, keys=keys,
            centre=centre, paired=target == "next", through_writes=through_writes,
        )  # fmt: skip
        at = test_write_at or write_at
        test = replace(
            train, rule=test_rule or rule, write_at=at, chunk=prompt if at == "prompt" else chunk,
            fixed_step=test_step, clip=clip if test_clip is None else test_clip,
        )  # fmt: skip
        check_start(self._start)
        check_rule(train, self._start, seq_len=seq_len, test=False)
        check_test(writes=test_writes, rule=test_rule, write_at=test_write_at, step=test_step, clip=test_clip)
        if test_writes:
            check_rule(test, self._start, seq_len=seq_len, test=True)
        self._train, self._test = train, test
        self.crossing = chunk if write_at == "chunk" else None
        self._desk = MlpDesk(Lifetime(reset, carry))
        self._sources = Sources(source)
        self._layers: dict[str, FastDown] = {}

    def attach(self, model: nn.Module) -> None:
        self._embedding: nn.Embedding = model.get_input_embeddings()  # type: ignore[operator]
        for name, mlp, down in pick_layers(list(down_projections(model)), self._only):
            layer = FastDown(down, name=name, desk=self._desk, sources=self._sources, start=self._start)
            self._sources.listen(mlp.module, name)
            # W0 keeps its name, so that weights of the plain model still fit.
            setattr(mlp.module, mlp.down_name, layer)
            self._layers[name] = layer
        if not self._layers:
            raise ValueError(f"adapter={self.name}: the model has no gated MLP")

    def initial(self) -> FastState:
        return {key: tensor for layer in self._layers.values() for key, tensor in layer.initial(self._train).items()}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        write = write and (self._test_writes or model.training)
        rule = self._train if model.training else self._test
        with self._desk.reading(batch, state, rule=rule, write=write, cache=cache) as writing:
            if write and not self._sources.hidden:
                # Targets are made of embeddings, the same for every layer; only writes need them.
                self._sources.share(self._embedding(batch.tokens_BT))
            logits_BTV = model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache)
        return logits_BTV, writing.after

    def carry(self, state: FastState) -> FastState:
        return self._desk.lifetime.next(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """|S| / |W0| (mean over lanes) and the step size of each layer."""
        numbers = {}
        for name, layer in self._layers.items():
            norm = state[f"{name}.memory"].norm(dim=(-2, -1)).mean() / layer.weight.detach().norm()
            numbers[f"{name}.state_over_w0"] = float(norm)
            numbers[f"{name}.step"] = float(layer.step().detach())
        return numbers

    def additive(self) -> Sequence[tuple[Tensor, str]]:
        # With norms of rows the model does not compute with the sum W0 + S.
        pairs = [(layer.weight, f"{name}.memory") for name, layer in self._layers.items()]
        return [] if self._train.norm == "rows" else pairs

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return next(iter(self._layers.values())).executor(self._train, length=length, dtype=dtype)
