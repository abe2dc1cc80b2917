"""`mlp_fast`: an MLP's down-projection that is written while the model reads.

    o_t = (W0 + S_n) z_t          token t of chunk n reads the state from before its chunk
    S  <- decay * (S + eta * sum over the chunk of v_t k_t^T), as the next chunk begins
    k_t = z_t / |z_t|             v_t = W_t conv(rms_norm(embedding))_t: by its start, the next token

In-Place Test-Time Training (arXiv 2604.06169); kernels/inplace/naive.py holds the recurrence. The keys' norm,
the decay and the learned eta are ours: docs/decisions.md says on what evidence. Other rules (error
correction, momentum, clipping) are in kernels/inplace/steps.py.
Shapes: B batch (lanes), T time, V vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import FastState, Lifetime, Reset
from ttt.adapters.layers import check_chunk, down_projections, pick_layers
from ttt.adapters.reading import Desk
from ttt.adapters.fast_down import FastDown, Sources, WriteRule
from ttt.models.cache import Cache
from ttt.stream import Batch

CHOICES = {"keys": ("l2", "raw"), "source": ("embeddings", "hidden"), "rule": ("hebb", "delta", "nlms")}


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
        test_writes: bool,
        layers: list[int] | None,
        rule: str,
        decay: float,
        momentum: float,
        step: float,
        learn_step: bool,
        clip: float | None,
        keys: str,
        centre: bool,
        source: str,
        taps: int,
        projection: float,
        through_writes: bool,
    ) -> None:
        check_chunk(chunk, seq_len=seq_len)
        for argument, value in {"keys": keys, "source": source, "rule": rule}.items():
            if value not in CHOICES[argument]:
                raise ValueError(f"adapter.{argument}={value}: must be one of {', '.join(CHOICES[argument])}")
        _check(decay=decay, momentum=momentum, step=step, clip=clip, taps=taps)
        self.name, self.reset = name, reset
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
                # Targets are made of embeddings, the same for every layer; without writes nobody needs them.
                embed_BTD = self._embedding(batch.tokens_BT)
                self._sources.shared_BTD = working_precision(F.rms_norm(embed_BTD, embed_BTD.shape[-1:]))
            logits_BTV = model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache)
        return logits_BTV, now.after

    def carry(self, state: FastState) -> FastState:
        return self._desk.lifetime.next(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        numbers = {}
        for name, layer in self._layers.items():
            norm = state[f"{name}.memory"].norm(dim=(-2, -1)).mean() / layer.weight.detach().norm()
            numbers[f"{name}.state_over_w0"] = float(norm)
            numbers[f"{name}.step"] = float(layer.log_step.detach().exp())
        return numbers

    def additive(self) -> Sequence[tuple[Tensor, str]]:
        return [(layer.weight, f"{name}.memory") for name, layer in self._layers.items()]

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        """How rows of `length` tokens will be computed."""
        return next(iter(self._layers.values())).executor(length=length, dtype=dtype)


def working_precision(x: Tensor) -> Tensor:
    """Cast once to what autocast would cast to in every layer."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def _check(*, decay: float, momentum: float, step: float, clip: float | None, taps: int) -> None:
    """Refuse what cannot work, in the user's words."""
    if not 0 <= decay <= 1:
        raise ValueError(f"adapter.decay={decay:g}: must lie between 0 (forget at once) and 1 (keep all)")
    if not 0 <= momentum < 1:
        raise ValueError(f"adapter.momentum={momentum:g}: must lie in [0, 1)")
    if step <= 0:
        raise ValueError(f"adapter.step={step:g}: must be above 0")
    if clip is not None and clip <= 0:
        raise ValueError(f"adapter.clip={clip:g}: must be above 0 (null: no clipping)")
    if taps < 3 or taps % 2 == 0:
        raise ValueError(f"adapter.taps={taps}: must be odd and at least 3, to reach the next token")
