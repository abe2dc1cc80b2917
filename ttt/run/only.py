"""Which slow weights are learned, where that is not all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from ttt.config.messages import show, suggest

# Stands for every parameter that the adapter brought along.
ADAPTER = "adapter"


def learn_only(model: nn.Module, only: Sequence[str] | None, *, own_names: Collection[str]) -> None:
    """Freeze every parameter without one of the words `only` in its dotted name; None: freeze none.

    `own_names`: the parameters that are the model's own; the word `adapter` stands for all others.
    Raises ValueError for a word that names no parameter.
    """
    if only is None:
        return
    if isinstance(only, str) or not only:
        raise ValueError(f"optimizer.only={show(only)}: must be a list of words, such as [adapter] or [layers.1,norm]")
    parameters = dict(model.named_parameters())
    for word in only:
        if not any(_names(word, name, own_names) for name in parameters):
            parts = {part for name in parameters for part in name.split(".") if not part.isdigit()} | {ADAPTER}
            raise ValueError(f"optimizer.only={show(only)}: no parameter is in {word}; {suggest(word, parts)}")
    for name, parameter in parameters.items():
        if not any(_names(word, name, own_names) for word in only):
            parameter.requires_grad_(False)


def _names(word: str, name: str, own_names: Collection[str]) -> bool:
    if word == ADAPTER:
        return name not in own_names
    # The dots keep layers.1 from choosing layers.10.
    return f".{word}." in f".{name}."
