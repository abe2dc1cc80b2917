"""How a model reads prompts: words head a row, vectors are added to the embeddings there.

A prompt is P token ids or, as floats, P vectors that are added to the embeddings of the seed
prompt. `prompt_RP` holds one prompt for each row: [R, P] or [R, P, D].
Shapes: R rows, T time, P prompt, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ttt.models.cache import Cache
from ttt.stream import Layout


def head_tokens(prompt_RP: Tensor, layout: Layout) -> Tensor:
    """Return the tokens at the head of the rows, [R, P]; under vectors those of the seed prompt."""
    if prompt_RP.is_floating_point():
        return torch.tensor(layout.seed_prompt, device=prompt_RP.device).expand(len(prompt_RP), -1)
    return prompt_RP


def added_vectors(prompt_RP: Tensor) -> Tensor | None:
    """Return the vectors to add to the head's embeddings, [R, P, D]; None: prompts are words."""
    return prompt_RP if prompt_RP.is_floating_point() else None


@contextmanager
def adding(model: nn.Module, added_RPD: Tensor | None) -> Iterator[None]:
    """While open, add these vectors to the embeddings of the first P tokens of each row."""
    if added_RPD is None:
        yield
        return

    def add(module: nn.Module, args: tuple[Tensor, ...], embedded_RTD: Tensor) -> Tensor:
        places = added_RPD.shape[1]
        # Not in place: the output of an embedding is part of the graph.
        return torch.cat([embedded_RTD[:, :places] + added_RPD.to(embedded_RTD.dtype), embedded_RTD[:, places:]], 1)

    # A hook and not an argument, so that any model with an embedding table can be used.
    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    handle = embedding.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def predict(
    model: nn.Module,
    tokens_RT: Tensor,
    added_RPD: Tensor | None,
    *,
    cache: Cache | None = None,
    weights: dict[str, Tensor] | None = None,
) -> Tensor:
    """Return logits [R, T, V], under `weights`; None: under the weights of the model."""
    # Prompts stand at the head of a row, which only the first piece behind an empty cache holds.
    is_first = cache is None or cache.is_empty
    with adding(model, added_RPD if is_first else None):
        if weights is None:
            logits: Tensor = model(tokens_RT, cache=cache)
            return logits
        return functional_call(model, weights, (tokens_RT,), {"cache": cache})
