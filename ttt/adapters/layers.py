"""Which layers of a model an adapter takes, and whether its chunks fit the sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from torch import nn

from ttt.models.gated import GatedMlp, gated_mlps

T = TypeVar("T")


def check_chunk(chunk: int, *, seq_len: int) -> None:
    """Raises ValueError for a chunk as long as the sequences, whose writes nothing would read."""
    if chunk >= seq_len:
        raise ValueError(
            f"adapter.chunk={chunk}: must be below task.seq_len={seq_len}; nothing reads what the "
            "last chunk of a sequence writes, so one chunk would mean no fast weights at all"
        )


def pick_layers(layers: Sequence[T], only: list[int] | None) -> list[T]:
    """The layers that the user chose by depth; None: all. Raises ValueError."""
    for index in only or ():
        if not 0 <= index < len(layers):
            raise ValueError(f"adapter.layers={only}: layer {index} is not one of 0 .. {len(layers) - 1}")
    if only == [] or len(set(only or ())) < len(only or ()):
        raise ValueError(f"adapter.layers={only}: must name at least one layer, each once (null: all)")
    return list(layers) if only is None else [layers[index] for index in only]


def down_projections(model: nn.Module) -> Iterator[tuple[str, GatedMlp, nn.Linear]]:
    """(name, gated MLP, its down-projection) in order of depth.

    A projection that an adapter has replaced is no nn.Linear, and is not offered again.
    """
    for mlp in gated_mlps(model):
        if isinstance(mlp.down, nn.Linear):
            yield mlp.name, mlp, mlp.down
