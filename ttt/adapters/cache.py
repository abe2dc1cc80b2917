"""`cache`: the last tokens, whose successors are looked up and mixed into the model's predictions.

    p = (1 - mix (1 - rest)) p_model + mix sum_i weight_i [token i]

`kind` says what the weights go by: n-grams of the tokens (cache_ngram.py), or hidden states
(cache_neural.py). `rest` is what they leave to the model. No weight of the model is fast: the state
holds the last tokens, and the mixture is formed at the output.
Shapes: B batch (lanes), T time, V vocabulary, A places of a window, D model width.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from ttt.adapters.base import FastState, Reset, RunsOn
from ttt.adapters.beside import unit
from ttt.adapters.cache_mixture import Mixture, Sight
from ttt.adapters.cache_neural import HiddenStates, Similar
from ttt.adapters.cache_ngram import Ngrams
from ttt.adapters.cache_window import SEGMENT, TOKENS, Window, newest, one_lane
from ttt.models.cache import Cache
from ttt.stream import Batch

HIDDEN = "hidden"


class TokenCache:
    """Arguments are explained in conf/adapter/cache.yaml."""

    def __init__(
        self,
        *,
        name: str,
        kind: Literal["ngram", "neural"],
        size: Annotated[int, Ge(1)],
        reset: Reset,
        order: Annotated[int, Interval(ge=0, le=32)],
        escape: Annotated[float, Gt(0)],
        sharpness: Annotated[float, Gt(0)],
        mix: Annotated[float, Interval(gt=0, lt=1)],
        learn_mix: bool,
    ) -> None:
        self.name, self.reset = name, reset
        # Tokens have no mean: a state that lives on must see the tokens of all lanes.
        self.runs_on: RunsOn = "ddp" if reset == "sequence" else "one"
        self._kind, self._size = kind, size
        # The context of the oldest value is kept, too.
        self._places = size + order if kind == "ngram" else size
        lookup = (
            Ngrams(order=order, escape=escape, learned=learn_mix)
            if kind == "ngram"
            else Similar(sharpness=sharpness, learned=learn_mix)
        )
        self._mixture = Mixture(lookup, mix=mix, learned=learn_mix)
        self._hidden: HiddenStates | None = None
        self._width = 0

    def attach(self, model: nn.Module) -> None:
        if self._kind == "neural":
            self._hidden = HiddenStates(model, adapter=self.name)
            self._width = model.get_input_embeddings().embedding_dim  # type: ignore[operator]
        # Its few numbers become parameters of the model, so that its optimizer trains them.
        model.add_module("mixture", self._mixture)

    def initial(self) -> FastState:
        device = self._mixture.logit.device
        state = {TOKENS: torch.zeros(1, self._places, device=device)}
        return state | ({HIDDEN: torch.zeros(1, self._places, self._width, device=device)} if self._hidden else {})

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        with self._heard() as heard:
            logits_BTV = model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache)
        if not write and not bool(state[TOKENS].any()):
            return logits_BTV, state
        with torch.autocast(logits_BTV.device.type, enabled=False):
            mixed_BTV, after = self._mixed(logits_BTV, heard, batch, state, write=write)
        if not write:
            return mixed_BTV, state
        # Nobody continues inside a document without a reader.
        return mixed_BTV, {name: x for name, x in after.items() if name != SEGMENT or cache is not None}

    def _heard(self) -> AbstractContextManager[list[Tensor]]:
        """Collects hidden states while open; n-grams need none."""
        return nullcontext([]) if self._hidden is None else self._hidden.listening()

    def _mixed(
        self, logits_BTV: Tensor, heard: list[Tensor], batch: Batch, state: FastState, *, write: bool
    ) -> tuple[Tensor, FastState]:
        """Log-probabilities [B, T, V] of the mixture, and the state after the batch."""
        by_document = write and self.reset == "sequence"
        if by_document and SEGMENT not in state:
            # New documents read nothing from before them: without it the window is shorter.
            state = {name: x[:, :0] for name, x in state.items()}
        window = Window.of(batch, state, write=write)
        after, hidden_BAD = window.state(self._places), None
        if heard:
            hidden_BAD = window.placed(state[HIDDEN], unit(heard[0]))
            after[HIDDEN] = newest(hidden_BAD, self._places).float()
        # Without writes the window does not move on.
        sight = Sight(window, size=self._size if write else window.token_BA.shape[1], by_document=by_document)
        return self._mixture(logits_BTV, sight, self._mixture.lookup.open(window, hidden_BAD)), after

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        kind = f"n-grams of up to {self._places - self._size + 1} tokens" if self._kind == "ngram" else "hidden states"
        return f"the plain model, mixed with a cache of the last {self._size} tokens by {kind}"

    def carry(self, state: FastState) -> FastState:
        return one_lane(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """How full the cache is, the largest share of its mixture, and the numbers of its kind."""
        filled = float((state[TOKENS] != 0).double().mean())
        mixture = self._mixture
        return {"filled": filled, "mix": float(mixture.logit.detach().sigmoid()), **mixture.lookup.numbers()}
