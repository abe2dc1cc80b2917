"""`none`: no fast weights. The static model, which learns in context through attention alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ttt.adapters.base import FastState, Reset
from ttt.stream import Batch


class NoAdapter:
    reset: Reset = "sequence"

    def __init__(self, *, name: str) -> None:
        self.name = name

    def attach(self, model: nn.Module) -> None:
        pass

    def initial(self) -> FastState:
        return {}

    @contextmanager
    def reading(self, batch: Batch, state: FastState, *, write: bool) -> Iterator[FastState]:
        yield {}

    def carry(self, state: FastState) -> FastState:
        return {}

    def diagnostics(self, state: FastState) -> dict[str, float]:
        return {}
