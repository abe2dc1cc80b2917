"""Prompts as a model reads them: words stand at the head of a row; vectors are added to the embeddings of the seed
prompt there.

A prompt is P token ids or, as floats, P vectors; `prompt_RP` is one of each row: [R, P] or [R, P, D].
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


def heads(prompt_RP: Tensor, layout: Layout) -> Tensor:
    """The tokens at the head of the rows, [R, P]."""
    if prompt_RP.is_floating_point():
        return torch.tensor(layout.seed_prompt, device=prompt_RP.device).expand(len(prompt_RP), -1)
    return prompt_RP


def vectors(prompt_RP: Tensor) -> Tensor | None:
    """What is added to their embeddings, [R, P, D]; None: nothing."""
    return prompt_RP if prompt_RP.is_floating_point() else None


@contextmanager
def adding(model: nn.Module, added_RPD: Tensor | None) -> Iterator[None]:
    """While open, these are added to the embeddings of the first P tokens of what the model is given."""
    if added_RPD is None:
        yield
        return

    def add(module: nn.Module, given: tuple[Tensor, ...], found_RTD: Tensor) -> Tensor:
        places = added_RPD.shape[1]
        return torch.cat([found_RTD[:, :places] + added_RPD.to(found_RTD.dtype), found_RTD[:, places:]], 1)

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
    """Logits [R, T, V], under `weights` (None: the model's own). Behind a cache only the first piece holds prompts."""
    is_first = cache is None or not cache.tensors
    with adding(model, added_RPD if is_first else None):
        if weights is None:
            found: Tensor = model(tokens_RT, cache=cache)
            return found
        return functional_call(model, weights, (tokens_RT,), {"cache": cache})
