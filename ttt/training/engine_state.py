"""What of an engine must be the same for training to go on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ttt.adapters.base import ordered
from ttt.devices.collective import deal
from ttt.devices.scaler import restore_scaler, scaler_tensors
from ttt.learner import Engine
from ttt.storage import checkpoint
from ttt.storage.checkpoint import Tensors
from ttt.storage.shares import share_of


def engine_tensors(engine: Engine) -> dict[str, Tensors]:
    """Fast state, moments, generators and the scaler of gradients, if there is one, by group.

    Slow weights are the caller's.
    """
    scaler = scaler_tensors(engine.fabric)
    return {
        "fast": engine.whole_fast(),
        "optimizer": checkpoint.optimizer_tensors(engine.optimizer, engine.order),
        "rng": checkpoint.rng_tensors(),
    } | ({"scaler": scaler} if scaler else {})


def restore_engine(engine: Engine, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """The inverse of `engine_tensors`, on any number of devices."""
    fabric = engine.fabric
    state = ordered(tensors["fast"], like=engine.learner.adapter.initial())
    fast = {name: x.to(fabric.device) for name, x in state.items()}
    # Where lanes are merged, every device holds the
    # one state; else each holds that of its own lanes.
    engine.learner.fast = fast if engine.merges else deal(fast, fabric.global_rank, of=fabric.world_size)
    checkpoint.restore_optimizer(engine.optimizer, tensors["optimizer"], engine.order)
    checkpoint.restore_rng(tensors["rng"])
    restore_scaler(fabric, dict(tensors.get("scaler", {})))


def bytes_of_a_save(engine: Engine) -> int:
    """About how much a checkpoint takes, whatever strategy and objective add."""
    learner = engine.learner
    tensors = [*learner.parameters(), *learner.fast.values()]
    # Adam's; an optimizer may have fewer.
    moments = [x for x in learner.parameters() if x.requires_grad] * 2
    return sum(x.numel() * x.element_size() for x in (*tensors, *moments))


def placed_like(engine: Engine, slow: Mapping[str, Tensor]) -> Tensors:
    """Slow weights as the devices of the engine hold them."""
    parameters = dict(engine.learner.model.named_parameters())
    return {name: share_of(slow, name, like=parameters[name]) if name in parameters else slow[name] for name in slow}
