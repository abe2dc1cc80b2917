"""The parts of a method, each built from its section of a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ttt.adapters.base import Adapter
from ttt.config.build import build, construct
from ttt.devices.deferred import Deferred, NotDeferrableError
from ttt.learner import Learner, OptimizerFactory
from ttt.objectives.base import Objective
from ttt.run.checks import check_adapter, vector_size
from ttt.run.only import learn_only
from ttt.run.published import stored_numbers
from ttt.strategies.base import Strategy
from ttt.strategies.both import Both, second_refuses
from ttt.stream import Layout, Stream
from ttt.training.pace import Pace
from ttt.training.write_dropout import WriteDropout

# What conf/fast.yaml adds to the section of an adapter.
_DROPOUT = ("write_dropout", "write_dropout_in")


def build_strategy(config: dict[str, Any], trusted: Sequence[Path]) -> Strategy:
    """One strategy, or two at once (strategy@also=...)."""
    first: Strategy = build(config["strategy"], group="strategy", given={}, trusted=trusted)
    if config.get("also") is None:
        return first
    with second_refuses():
        second: Strategy = build(config["also"], group="also", given={}, trusted=trusted)
    return Both(first, second)


def build_optimizer(config: dict[str, Any], trusted: Sequence[Path]) -> tuple[OptimizerFactory, Pace]:
    """What moves the slow weights, and at which pace: one section of the config names both."""
    # The signature of `Pace` says which keys are about timing, so that no list has to follow it.
    names = inspect.signature(Pace).parameters
    timing = {name: value for name, value in config.items() if name in names}
    # `only` says which weights an optimizer gets; build_learner freezes the others.
    rest = {name: value for name, value in config.items() if name not in (*names, "only")}
    optimizer: OptimizerFactory = build(rest, group="optimizer", given={}, trusted=trusted)
    return optimizer, construct(Pace, timing, group="optimizer")


def build_objective(config: dict[str, Any], *, trusted: Sequence[Path], stream: Stream) -> Objective:
    """What slow weights are moved by: likelihood or reward."""
    offered = {"layout": stream.layout}
    objective: Objective = build(config["objective"], group="objective", given={}, trusted=trusted, offered=offered)
    return objective


def build_model(section: Mapping[str, Any], *, sizes: Mapping[str, int], trusted: Sequence[Path]) -> nn.Module:
    """A model with fresh weights; `sizes`: what the stream decides."""
    # `reads` is checked in `vector_size`, and `tokenizer` is for sources: the model takes neither.
    taken = {name: value for name, value in section.items() if name not in ("reads", "tokenizer")}
    model: nn.Module = build(taken, group="model", given=sizes, trusted=trusted)
    return model


def build_adapter(section: Mapping[str, Any], *, layout: Layout | None, trusted: Sequence[Path]) -> Adapter:
    """An adapter that is not attached yet."""
    taken = _arguments(section)
    adapter: Adapter = build(taken, group="adapter", given={}, trusted=trusted, offered={"layout": layout})
    return adapter


def _arguments(section: Mapping[str, Any]) -> dict[str, Any]:
    """What the constructor of an adapter takes, at any depth: an adapter may name another one."""
    # `base`, for `base_adapter`, says how the base is trained; `write_dropout` how often a batch
    # writes. Neither is a constructor argument.
    names = ("base", *_DROPOUT)
    return {
        name: _arguments(value) if isinstance(value, Mapping) else value
        for name, value in section.items()
        if name not in names
    }


def build_dropout(adapter: Mapping[str, Any], *, seed: int) -> WriteDropout:
    """Which batches an adapter reads without writes, from its section of the config."""
    taken = {name: value for name, value in adapter.items() if name in _DROPOUT}
    dropout: WriteDropout = construct(WriteDropout, taken | {"seed": seed}, group="adapter")
    return dropout


def build_learner(
    config: dict[str, Any],
    *,
    trusted: Sequence[Path],
    stream: Stream,
    optimizer: OptimizerFactory,
    deferred: bool = False,
) -> tuple[Learner, frozenset[str]]:
    """A learner with fresh weights, and the names of the parameters that are the model's own.

    `deferred`: if that can be, the weights get their numbers only when the learner is set up on its
    devices, of which each then holds its share alone.
    """
    if deferred:
        numbers = Deferred(config["base"]["seed"])
        try:
            with numbers.building():
                learner, own_names = build_learner(config, trusted=trusted, stream=stream, optimizer=optimizer)
            learner.fast = {}
            numbers.close(learner.model, stored=stored_numbers(learner.model))
        # Torch refuses to read a number where there is none. What the user should hear of comes
        # again from the second attempt.
        except (NotDeferrableError, RuntimeError, ValueError, TypeError, AttributeError):
            pass
        else:
            learner.deferred = numbers
            return learner, own_names
    # Initial weights belong to the base, which runs of several seeds may share.
    torch.manual_seed(config["base"]["seed"])
    sizes = {"vocab_size": stream.vocab_size} | vector_size(config, stream)
    model = build_model(config["model"], sizes=sizes, trusted=trusted)
    check_adapter(config, model)
    # This comes before the adapter brings parameters of its own.
    own_names = frozenset(name for name, _ in model.named_parameters())
    adapter = build_adapter(config["adapter"], layout=stream.layout, trusted=trusted)
    learner = Learner(model, adapter=adapter, optimizer=optimizer)
    learn_only(model, config["optimizer"].get("only"), own_names=own_names)
    return learner, own_names
