"""`prompt_fast`: a soft prompt, P vectors before the tokens, moved by gradient at its own rate.

    P = P0 + S       S <- decay S - step * clip(grad of the chunk's next-token loss, read behind P)

Prompt tuning (arXiv 2104.08691) as fast weights: with reset=task and carry=mean the prompt adapts
over a task, while slow weights move at their own rate. Every chunk sees the current prompt directly
before itself. P0 is a slow weight. ttt/adapters/descent.py takes the steps.
Shapes: B batch (lanes), P prompt vectors, D model width, C cells per chunk, V vocabulary.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from ttt.adapters.base import Carry, FastState, Lifetime, Reset, RunsOn
from ttt.adapters.descent import ChunkTokens, Descent, Rates
from ttt.adapters.linear_fast import adopt
from ttt.models.cache import Cache
from ttt.stream import Batch


class PromptFast:
    """Arguments are explained in conf/adapter/prompt_fast.yaml."""

    # A step differentiates with respect to the prompt outside FSDP's own passes.
    runs_on: RunsOn = "ddp"

    def __init__(
        self,
        *,
        name: str,
        seq_len: int,
        chunk: Annotated[int, Ge(2)],
        reset: Reset,
        carry: Carry,
        vectors: Annotated[int, Ge(1)],
        step: Annotated[float, Gt(0)],
        learn_step: bool,
        clip: Annotated[float, Gt(0)] | None,
        decay: Annotated[float, Interval(ge=0, le=1)],
        second_order: bool,
    ) -> None:
        rates = Rates(step=step, learn_step=learn_step, clip=clip, decay=decay, second_order=second_order)
        self.name, self.reset, self._vectors = name, reset, vectors
        self._descent = Descent(chunk=chunk, seq_len=seq_len, lifetime=Lifetime(reset, carry), rates=rates)

    def attach(self, model: nn.Module) -> None:
        embedding: nn.Embedding = model.get_input_embeddings()  # type: ignore[operator]
        # Vectors start with the spread of the embeddings: the model then reads them as words.
        spread = float(embedding.weight.detach().float().std())
        self._start_PD = nn.Parameter(spread * torch.randn(self._vectors, embedding.embedding_dim))
        adopt(model, self._descent)
        model.register_parameter("prompt", self._start_PD)

    def initial(self) -> FastState:
        return {"prompt": torch.zeros_like(self._start_PD, dtype=torch.float32).detach()[None]}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        return self._descent.read(model, batch, state, attach=self, write=write, cache=cache)

    def logits(self, model: nn.Module, chunk: ChunkTokens, *, cache: Cache, fast: FastState) -> Tensor:
        # The prompt stands before the chunk, also when this piece continues a chunk.
        cache.since_prefix_B = chunk.since_B
        prompt_BPD = model.get_parameter("prompt") + fast["prompt"]
        return model(chunk.tokens_BC, segment_BT=chunk.segment_BC, cache=cache, prefix_BPD=prompt_BPD)

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return self._descent.executor(length=length)

    def carry(self, state: FastState) -> FastState:
        return self._descent.lifetime.next(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """The norm of the fast weights (mean over lanes) and the step size."""
        norm = state["prompt"].flatten(1).norm(dim=1).mean()
        return {"state_norm": float(norm), "step": float(self._descent.log_step.detach().exp())}
