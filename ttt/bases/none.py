"""`base=none`: the stream begins from random weights, drawn from `base.seed`."""

from __future__ import annotations

from ttt.bases.base import BaseSetting, SlowWeights


class NoBase:
    needs_data = False

    def __init__(self, *, name: str, seed: int) -> None:
        self.name, self.seed = name, seed
        self.record: dict[str, float | str] = {}

    def weights(self, setting: BaseSetting) -> SlowWeights | None:
        return None
