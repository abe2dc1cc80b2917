"""Several optimizers over disjoint parameters, used as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from ttt.optimizers.eager import take_step


class Joined(Optimizer):
    """An optimizer whose groups and steps are those of its parts, in order.

    All parts share one state dictionary, so that checkpoints and schedules see one optimizer.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self._parts = list(parts)
        # The base class wants a flat list; the real groups, with the options of each part, follow.
        super().__init__(
            [parameter for part in parts for group in part.param_groups for parameter in group["params"]], {}
        )
        self.param_groups = [group for part in parts for group in part.param_groups]
        self._deal()

    def _deal(self) -> None:
        """Hand every part its groups and the shared state, by reference: a new rate reaches it."""
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # `load_state_dict` ends here too, with groups and a state that the parts do not hold yet.
        super().__setstate__(state)
        self._deal()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        # A closure would have to run once for all parts; no caller needs one.
        assert closure is None
        for part in self._parts:
            take_step(part)
