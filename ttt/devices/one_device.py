"""One device, without Lightning Fabric, whose wrappers cost 60 us a step and whose import costs
more than torch's.

Several devices, and precisions that need a scaler or a model that is cast as a whole, are left to
Fabric.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from lightning.fabric import Fabric

T = TypeVar("T")
# Precisions that need nothing but autocast.
PLAIN = ("32-true", "bf16-mixed")


class OneDevice:
    """The part of Fabric's interface that a run uses, for one process on one device."""

    world_size, global_rank, is_global_zero, strategy = 1, 0, True, None

    def __init__(self, device: torch.device, *, precision: str) -> None:
        assert precision in PLAIN
        self.device = device
        self._half = precision == "bf16-mixed"

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self._half else nullcontext()

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """The same objects: parameters move to the device in place."""
        return module.to(self.device), optimizer

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_gradients(self, module: nn.Module, optimizer: Optimizer, *, max_norm: float) -> None:
        # In the optimizer's order, as Lightning does: the last bits of a norm depend on the order.
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)

    def broadcast(self, answer: T) -> T:
        return answer

    def barrier(self) -> None:
        pass


Devices: TypeAlias = "Fabric | OneDevice"
