"""The cost of a call, read from its operators: FLOPs, bytes touched, and peak of allocated bytes.

Counts do not vary from run to run as times do, so a change of the code shows at once. Also the time
that the matrix products of a call take alone.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ttt.adapters.footing import Flops

PRODUCTS = frozenset(
    f"aten::{name}" for name in ("mm", "bmm", "addmm", "addmm_", "baddbmm", "baddbmm_", "linalg_solve_triangular")
)


@dataclass(frozen=True)
class Cost:
    """Floating-point operations; bytes that operators read and write; peak of allocated bytes."""

    flops: float
    touched: float
    peak: float


class _Meter(TorchDispatchMode):
    """Count the bytes of every operator's inputs and outputs, and of what it allocates."""

    def __init__(self) -> None:
        super().__init__()
        self.touched, self.live, self.peak = 0, 0, 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Torch passes None where there are no keywords.
        out = func(*args, **(kwargs or {}))
        # A view moves no bytes.
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.touched += sum(x.numel() * x.element_size() for x in tensors)
            for x in tree_leaves(out):
                if isinstance(x, Tensor):
                    self._allocated(x.untyped_storage())
        return out

    def _allocated(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        # Operators that work in place, and views, return a storage that was counted already.
        if key in self._alive or not size:
            return
        self._alive.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        # Torch reuses addresses, so a storage is forgotten in the moment that it is freed.
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.live -= size


def flops_of(call: Callable[[], None]) -> float:
    """Return the operations of matrix products in one call."""
    with Flops() as counter:
        call()
    return float(counter.flops)


def seconds_in_products(call: Callable[[], None], *, calls: int = 5) -> float:
    """Return the seconds that matrix products take in one call: the least of `calls`, by clock."""
    return min(_products(call) for _ in range(calls))


def _products(call: Callable[[], None]) -> float:
    # Else the profiler tells of its start and its end on each call.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call()
    return sum(event.self_cpu_time_total for event in profiler.key_averages() if event.key in PRODUCTS) / 1e6


def cost(call: Callable[[], None]) -> Cost:
    """Return the cost of one call. `peak` leaves out its inputs and weights."""
    with _Meter() as meter:
        call()
    return Cost(flops_of(call), float(meter.touched), float(meter.peak))
