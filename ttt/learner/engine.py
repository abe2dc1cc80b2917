"""A learner set up on its devices: what training, evaluation and strategies work with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ttt.adapters.base import Adapter, FastState, shared
from ttt.devices.collective import collect_over_devices, mean_over_devices
from ttt.devices.context import Context
from ttt.devices.one_device import Devices
from ttt.devices.scaler import restart_scaler
from ttt.devices.shards import follow, unsharded
from ttt.learner.learner import Learner
from ttt.learner.losses import rooted
from ttt.stream import Batch


@dataclass(frozen=True)
class Engine:
    """A learner set up on its devices.

    `wrapped`: what Fabric made of the learner (precision, DDP, FSDP2). `order`: the parameters as
    the optimizer numbers them, whatever the devices. `accumulate`: into how many parts this device
    cuts its rows. `merges`: is one fast state carried on, rather than one for each lane?
    `is_sharded`: are parameters cut over the devices? `context`: the place of this process among
    those that share its rows; None where each reads rows of its own.
    """

    fabric: Devices
    learner: Learner
    wrapped: Learner
    optimizer: Optimizer
    order: Sequence[nn.Parameter]
    accumulate: int
    merges: bool
    is_sharded: bool = False
    context: Context | None = None

    @classmethod
    def build(
        cls, fabric: Devices, learner: Learner, optimizer: Optimizer, *, accumulate: int = 1, processes: int = 1
    ) -> Engine:
        """Set up a learner with its optimizer; the fast state starts anew.

        `processes`: how many share each row.
        """
        is_sharded = _is_sharded(fabric)
        restart_scaler(fabric)
        for group in optimizer.param_groups:
            # Schedules are shares of this rate; torch's own schedulers use the same key.
            group["initial_lr"] = group["lr"]
        if is_sharded:
            wrapped, optimizer, order = _build_sharded(fabric, learner, optimizer)
        else:
            order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            set_up: Any = fabric.setup(learner, optimizer)
            wrapped, optimizer = set_up
            if fabric.world_size > 1:
                wrapped.mark_forward_method("score")
        learner.fast = learner.adapter.initial()
        merges = merges_lanes(learner.adapter)
        context = Context(fabric.global_rank, size=processes) if processes > 1 else None
        return cls(fabric, learner, wrapped, optimizer, order, accumulate, merges, is_sharded, context)

    @property
    def parts(self) -> int:
        """How many parts a batch is cut into: over devices and in turn."""
        return self.fabric.world_size * self.accumulate

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the parameters."""
        self.fabric.backward(rooted(loss, self.order))

    def own_rows(self, batch: Batch) -> Batch:
        """The rows of this device, which it may share with others."""
        size = 1 if self.context is None else self.context.size
        rank, of = self.fabric.global_rank // size, self.fabric.world_size // size
        assert len(batch.tokens_BT) % (of * self.accumulate) == 0, "rows divide by devices and accumulation"
        return batch.share(rank, of=of)

    def carried(self, state: FastState) -> FastState:
        """What `state` gives to the next batch, once the mean over devices is taken."""
        carried = self.learner.adapter.carry(state)
        return carried if self.context is None else self.context.last(carried)

    def shared_fast(self) -> FastState:
        """The carried state as one lane, the same on every device."""
        state = shared(self.learner.fast)
        return state if self.merges else mean_over_devices(self.fabric, state)

    def whole_fast(self) -> FastState:
        """The carried state of all lanes, as one device would have it."""
        return self.learner.fast if self.merges else collect_over_devices(self.fabric, self.learner.fast)

    def parameters_whole(self) -> AbstractContextManager[None]:
        """Keep cut parameters whole while open, to look at them outside a forward pass."""
        return unsharded(self.learner) if self.is_sharded else nullcontext()

    def scale_rate(self, factor: float) -> None:
        """Set the learning rate of each group to a share of its own."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def forget_moments(self) -> None:
        """Return the optimizer to where it was before its first step."""
        for parameter in self.order:
            self.optimizer.state.pop(parameter, None)


def merges_lanes(adapter: Adapter) -> bool:
    """Does the next batch start from one state, or does each lane keep its own?"""
    # Only `carry` knows; ask it with two empty lanes.
    two = {name: x.expand(2, *x.shape[1:]) for name, x in adapter.initial().items()}
    return all(len(x) == 1 for x in adapter.carry(two).values())


def _is_sharded(fabric: Devices) -> bool:
    if fabric.world_size == 1:
        return False
    # Imported here: one device needs no Lightning.
    from lightning.fabric.strategies.model_parallel import ModelParallelStrategy

    return isinstance(fabric.strategy, ModelParallelStrategy)


def _build_sharded(
    fabric: Any, learner: Learner, optimizer: Optimizer
) -> tuple[Learner, Optimizer, Sequence[nn.Parameter]]:
    """Cut the parameters over the devices; point the optimizer at the cuts, in the old order."""
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    wrapped: Any = fabric.setup_module(learner)
    if learner.deferred is not None:
        learner.deferred.fill(learner.model)
        learner.deferred = None
    follow(optimizer, names, learner)
    # Cutting replaces every parameter object: look them up again by name.
    now = dict(learner.named_parameters())
    set_up: Any = fabric.setup_optimizers(optimizer)
    return wrapped, set_up, [now[name] for name in order]
