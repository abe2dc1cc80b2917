"""Torch's optimizers without its compiler.

The first optimizer of a process imports torch._dynamo, which costs more than many a small run:
1.6 s of CPU and 70 MB. Only compiled steps need it, and none is compiled here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer

COMPILER = "torch._dynamo"
# Methods of every optimizer that import the compiler when they are first called, and where torch
# then notes what it made of them.
ASKING = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
NOTE = "__dynamo_disable"


@contextmanager
def uncompiled() -> Iterator[None]:
    """While open, these methods do without the compiler, and import nothing."""
    methods = [] if COMPILER in sys.modules else _asking()
    for method in methods:
        setattr(method, NOTE, method)
    try:
        yield
    finally:
        # A user's own compiled code, later in this process, finds all as it was.
        for method in methods:
            delattr(method, NOTE)


def _asking() -> list[Callable[..., Any]]:
    methods = [getattr(getattr(Optimizer, name), "__wrapped__", None) for name in ASKING]
    return [method for method in methods if method is not None and not hasattr(method, NOTE)]


def step_and_clear(optimizer: Optimizer) -> None:
    """Take a step, and take the gradients away."""
    with uncompiled():
        take_step(optimizer)
        optimizer.zero_grad()


def take_step(optimizer: Optimizer) -> None:
    """Do what `optimizer.step()` does."""
    plain = None if COMPILER in sys.modules else _plain_step(type(optimizer))
    is_hooked = "step" in vars(optimizer) or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if plain is None or is_hooked or optimizer.defaults.get("differentiable"):
        optimizer.step()
        return
    with torch.no_grad():
        plain(optimizer)


def _plain_step(kind: type[Optimizer]) -> Callable[[Optimizer], Any] | None:
    """A step of torch's own behind the wrapper that imports the compiler; None where none is."""
    function: Any = kind.step
    while function is not None and function.__code__.co_name != "_use_grad":
        function = getattr(function, "__wrapped__", None)
    return getattr(function, "__wrapped__", None)
