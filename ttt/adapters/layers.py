"""Which layers of a model an adapter takes, and whether its chunks fit the sequences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from torch import nn

from ttt.models.gated import GatedMlp, gated_mlps

T = TypeVar("T")
# What `adapter.layers` may be: indices, "every=6", "last=4", or None for all.
LayerChoice = list[int] | str | None


def check_chunk(chunk: int, *, seq_len: int) -> None:
    """Raises ValueError for a chunk as long as the sequences, whose writes nothing would read."""
    if chunk >= seq_len:
        raise ValueError(
            f"adapter.chunk={chunk}: must be below task.seq_len={seq_len}; nothing reads what the "
            "last chunk of a sequence writes, so one chunk would mean no fast weights at all"
        )


def pick_layers(layers: Sequence[T], only: LayerChoice) -> list[T]:
    """The layers that the user chose by depth; None: all. Raises ValueError."""
    if isinstance(only, str):
        return _pick_by_words(layers, only)
    for index in only or ():
        if not 0 <= index < len(layers):
            raise ValueError(f"adapter.layers={only}: layer {index} is not one of 0 .. {len(layers) - 1}")
    if only == [] or len(set(only or ())) < len(only or ()):
        raise ValueError(f"adapter.layers={only}: must name at least one layer, each once (null: all)")
    return list(layers) if only is None else [layers[index] for index in only]


def _pick_by_words(layers: Sequence[T], words: str) -> list[T]:
    """The layers 0, n, 2 n ... of "every=n", or the n of "last=n"."""
    match = re.fullmatch(r"(every|last)=([1-9]\d*)", words)
    if match is None:
        raise ValueError(f"adapter.layers={words}: must be a list of indices, every=N, last=N, or null for all")
    number = int(match[2])
    if match[1] == "every":
        return list(layers[::number])
    if number > len(layers):
        raise ValueError(f"adapter.layers={words}: the model has {len(layers)} layers")
    return list(layers[-number:])


def down_projections(model: nn.Module) -> Iterator[tuple[str, GatedMlp, nn.Linear]]:
    """(name, gated MLP, its down-projection) in order of depth.

    A projection that an adapter has replaced is no nn.Linear, and is not offered again.
    """
    for mlp in gated_mlps(model):
        if isinstance(mlp.down, nn.Linear):
            yield mlp.name, mlp, mlp.down
