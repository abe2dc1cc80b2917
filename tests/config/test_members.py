"""A part is compared with what its group needs, and refused in one line."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import ClassVar

import pytest

from ttt.adapters.base import Adapter
from ttt.adapters.none import NoAdapter
from ttt.config.build import build
from ttt.config.members import check_class, check_part
from ttt.config.parts import protocol_of, shipped
from ttt.strategies.base import Strategy


class Whole(NoAdapter):
    """All that an adapter needs."""


class NoCarry(NoAdapter):
    carry = None


class Stub(Adapter):
    """The methods of the protocol have no code."""

    runs_on = "any"
    attach, initial, read, carry = NoAdapter.attach, NoAdapter.initial, NoAdapter.read, NoAdapter.carry


class NoPlace:
    runs_on: ClassVar[str]
    attach, initial, read, carry = NoAdapter.attach, NoAdapter.initial, NoAdapter.read, NoAdapter.carry
    diagnostics, executor = NoAdapter.diagnostics, NoAdapter.executor

    def __init__(self, *, name: str) -> None:
        self.name, self.reset = name, "sequence"


class Nowhere(NoAdapter):
    runs_on = "everywhere"


class Deaf(NoAdapter):
    def read(self, model, batch, state, *, write):
        return super().read(model, batch, state, write=write)


class Open(NoAdapter):
    """Takes more than it must."""

    def read(self, model, batch, state, *, write, cache=None, speed=1):
        return super().read(model, batch, state, write=write, cache=cache)


class Nameless(Strategy):
    def __init__(self) -> None: ...


class Leash:
    attach = begin_task = end_task = print


LACKING = [
    (NoCarry(name="mine"), "adapter", ["NoCarry lacks carry(state)", "see ttt/adapters/base.py"]),
    (NoPlace(name="mine"), "adapter", ["NoPlace lacks runs_on;"]),
    (Nowhere(name="mine"), "adapter", ["runs_on=everywhere", "any, ddp, one"]),
    (Deaf(name="mine"), "adapter", ["read takes (model, batch, state, *, write), not", "cache"]),
    (Leash(), "strategy", ["Leash is no subclass of Strategy; see ttt/strategies/base.py"]),
    (Leash(), "also", ["no subclass of Strategy"]),
    (Nameless(), "strategy", ["Nameless lacks name;"]),
    (object(), "source", ["object lacks name, vocab_size", "draw(classes, *, rows, length, rng)"]),
]


@pytest.mark.parametrize(("part", "group", "said"), LACKING)
def test_what_a_part_lacks_is_named(part, group, said):
    with pytest.raises(ValueError, match=f"^{group}=mine: ") as refusal:
        check_part(part, group=group, typed=f"{group}=mine")
    assert "\n" not in str(refusal.value)
    assert all(words in str(refusal.value) for words in said), refusal.value


def test_methods_that_are_inherited_from_a_protocol_have_no_code():
    with pytest.raises(ValueError, match=r"Stub lacks name, reset, diagnostics\(state\), executor"):
        check_part(Stub(), group="adapter", typed="adapter=mine")


@pytest.mark.parametrize("part", [Whole(name="mine"), Open(name="mine")])
def test_a_whole_part_is_taken(part):
    check_part(part, group="adapter", typed="adapter=mine")


def test_a_method_that_a_base_leaves_open_is_named():
    class Base(ABC):
        @abstractmethod
        def documents(self): ...

    class Mine(Base):
        """It has none."""

    with pytest.raises(ValueError, match=r"source=mine: Mine lacks documents\(\); see .*test_members.py"):
        check_class(Mine, typed="source=mine")


def test_build_refuses_what_lacks_a_member(tmp_path, monkeypatch):
    lines = ["from ttt.adapters.none import NoAdapter", "class Mine(NoAdapter):", "    carry = None"]
    (tmp_path / "lacking_carry.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    section = {"_target_": "lacking_carry.Mine", "name": "mine"}
    with pytest.raises(ValueError, match="adapter=mine: Mine lacks carry"):
        build(section, group="adapter", given={}, trusted=[tmp_path])


@pytest.mark.parametrize(("path", "group"), sorted(shipped().items()))
def test_every_part_of_ours_leaves_nothing_open(path, group):
    module, _, name = path.rpartition(".")
    check_class(getattr(importlib.import_module(module), name), typed=path)
    protocol = protocol_of(group)
    if protocol:
        module, _, name = protocol.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
