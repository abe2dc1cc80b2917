"""Modules that are built without their numbers, which are filled in later, a tensor at a time.

While a module is built, its tensors lie on torch's `meta` device, which has shapes and no memory,
and every operation on them is written down. `fill` does the operations again, in the same order
and from the same seed, on the CPU, and drops each tensor as soon as nothing needs it. So a process
that holds a share of each parameter never holds more than a few of them whole, and the numbers are
those that the module would have been built with.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ttt.devices.shards import local, placed

META = torch.device("meta")
# What makes a tensor from sizes alone. Others, like torch.tensor, are small and stay as they are.
FACTORIES = frozenset(
    (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.linspace, torch.eye)
)
_IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]
# In-place operations of which the old content has no part in the new one.
OVERWRITING = frozenset(
    getattr(torch.ops.aten, name) for name in ("normal_", "uniform_", "fill_", "zero_", "copy_", "random_")
)


class NotDeferrableError(Exception):
    """A module does something while it is built that cannot be done later."""


@dataclass(frozen=True)
class Place:
    """A tensor on the meta device: which memory it would have, and where it lies in it."""

    memory: int
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


class Operation(NamedTuple):
    """Arguments and results hold places where the operation had tensors."""

    do: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: Any

    def touches(self) -> set[int]:
        return {x.memory for x in _places((self.args, self.kwargs, self.results))}

    def overwrites(self, memory: int, size: int) -> bool:
        """Is all of this memory new after the operation, and nothing of it read?"""
        if getattr(self.do, "overloadpacket", None) not in OVERWRITING:
            return False
        target, others = self.args[0], self.args[1:]
        covers = isinstance(target, Place) and target.memory == memory
        whole = covers and target.shape.numel() * target.dtype.itemsize == size
        return whole and all(x.memory != memory for x in _places(others))


class Deferred:
    """The operations that give a module its numbers; `seed` is where their chance begins."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._operations: list[Operation] = []
        # Kept alive, so that no two memories have one address.
        self._memories: dict[int, torch.UntypedStorage] = {}
        self._seen: list[weakref.ref[Tensor]] = []
        self._names: dict[int, list[tuple[str, Place]]] = {}
        self._stored: dict[int, Callable[[], Tensor]] = {}

    @contextmanager
    def building(self) -> Iterator[None]:
        """Build without numbers while open. Raises NotDeferrableError where that cannot be."""
        with _OnMeta(), _Noting(self):
            yield

    def note(self, do: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], results: Any) -> None:
        """Write down an operation that has been done."""
        tensors = [x for x in tree_leaves((args, kwargs, results)) if isinstance(x, Tensor)]
        if all(x.device != META for x in tensors):
            if torch.Tag.nondeterministic_seeded in do.tags and kwargs.get("generator") is None:  # type: ignore[attr-defined]
                raise NotDeferrableError("chance would come in another order")
            return
        self._seen += [weakref.ref(x) for x in tree_leaves(results) if isinstance(x, Tensor) and x.device == META]
        operation = Operation(do, *tree_map_only(Tensor, self._place, (args, kwargs, results)))
        before = {x.memory for x in _places((operation.args, operation.kwargs))}
        # A view is found again by its place.
        if do._schema.is_mutable or not {x.memory for x in _places(operation.results)} <= before:  # type: ignore[attr-defined]
            self._operations.append(operation)

    def close(self, module: nn.Module, *, stored: Mapping[str, Tensor] | None = None) -> None:
        """Remember which tensors `module` consists of; no others may be left.

        `stored`: the numbers with which some parameters began; they are read only to be used.
        """
        for name, tensor in _named(module).items():
            if tensor.device == META:
                place = self._place(tensor)
                self._names.setdefault(place.memory, []).append((name, place))
                if stored and name in stored:
                    self._stored[place.memory] = partial(stored.__getitem__, name)
        gc.collect()
        for reference in self._seen:
            tensor_left = reference()
            if tensor_left is not None and self._place(tensor_left).memory not in self._names:
                raise NotDeferrableError("a tensor is neither a parameter nor a buffer")
        self._seen = []

    @torch.no_grad()
    def fill(self, module: nn.Module) -> None:
        """Give the tensors of `module` their numbers, or this device's share of them.

        They have their memory by now; chance goes on from where building would have left it.
        """
        torch.manual_seed(self._seed)
        now, touched = _named(module), [operation.touches() for operation in self._operations]
        later: dict[int, list[int]] = {}
        for index, memories in enumerate(touched):
            for memory in memories:
                later.setdefault(memory, []).append(index)
        live: dict[int, torch.UntypedStorage] = {}
        for memory in self._stored.keys() - later.keys():
            self._give(memory, live, now)
            del live[memory]
        for operation, memories in zip(self._operations, touched, strict=True):
            self._redo(operation, live)
            for memory in memories:
                later[memory].pop(0)
                if not later[memory]:
                    self._give(memory, live, now)
                if not later[memory] or self._operations[later[memory][0]].overwrites(memory, self._size(memory)):
                    live.pop(memory, None)

    def _give(self, memory: int, live: dict[int, torch.UntypedStorage], now: Mapping[str, Tensor]) -> None:
        """Nothing changes this memory any more: give it to the tensors that it holds."""
        for name, place in self._names.get(memory, []):
            _put(self._tensor(place, live), into=now[name])

    def _redo(self, operation: Operation, live: dict[int, torch.UntypedStorage]) -> None:
        args, kwargs = tree_map_only(Place, lambda x: self._tensor(x, live), (operation.args, operation.kwargs))
        if "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        results = operation.do(*args, **kwargs)
        for place, tensor in zip(_places(operation.results), _tensors(results), strict=True):
            if place.memory not in live and place.memory not in self._stored:
                assert place.stride == tensor.stride(), "the CPU lays tensors out as meta does"
                live[place.memory] = tensor.untyped_storage()

    def _tensor(self, place: Place, live: dict[int, torch.UntypedStorage]) -> Tensor:
        """The tensor at a place; what nobody has written yet is stored, or empty."""
        if place.memory not in live and place.memory in self._stored:
            live[place.memory] = self._stored[place.memory]().to(place.dtype).contiguous().untyped_storage()
        if place.memory not in live:
            live[place.memory] = torch.empty(self._size(place.memory), dtype=torch.uint8).untyped_storage()
        empty = torch.empty(0, dtype=place.dtype)
        return empty.set_(live[place.memory], place.offset, place.shape, place.stride)

    def _size(self, memory: int) -> int:
        return self._memories[memory].nbytes()

    def _place(self, tensor: Tensor) -> Any:
        """The place of a tensor; one that has numbers stays itself."""
        if tensor.device != META:
            return tensor
        memory = tensor.untyped_storage()
        self._memories[memory._cdata] = memory
        return Place(memory._cdata, int(tensor.storage_offset()), tensor.shape, tensor.stride(), tensor.dtype)


class _OnMeta(TorchFunctionMode):
    """New tensors lie on the meta device, unless they say where, or have a generator."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == _IS_META:
            # Torch's own initialisers would do nothing.
            return False
        if func in FACTORIES and kwargs.get("device") is None and kwargs.get("generator") is None:
            kwargs = {**kwargs, "device": META}
        return func(*args, **kwargs)


class _Noting(TorchDispatchMode):
    def __init__(self, deferred: Deferred) -> None:
        super().__init__()
        self._deferred = deferred

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        self._deferred.note(func, args, kwargs, results)
        return results


def _named(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _places(tree: Any) -> list[Place]:
    return [x for x in tree_leaves(tree) if isinstance(x, Place)]


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _put(whole: Tensor, *, into: Tensor) -> None:
    local(into).copy_(local(placed(whole, like=into)))
