"""The gradient scaler of `trainer.precision=16-mixed`, which grows and shrinks while it trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ttt.devices.one_device import Devices


def scaler_tensors(fabric: Devices) -> dict[str, Tensor]:
    """Return the state of the scaler; empty for a precision that needs none."""
    scaler = _scaler(fabric)
    state = scaler.state_dict() if scaler is not None else {}
    return {name: torch.tensor(value) for name, value in state.items()}


def restore_scaler(fabric: Devices, tensors: dict[str, Tensor]) -> None:
    """The inverse of `scaler_tensors`."""
    if tensors:
        _scaler(fabric).load_state_dict({name: x.item() for name, x in tensors.items()})


def restart_scaler(fabric: Devices) -> None:
    """Return the scaler to its start, whether the base was trained here or came from the cache."""
    scaler = _scaler(fabric)
    if scaler is not None:
        scaler.load_state_dict(type(scaler)(device=fabric.device.type).state_dict())


def _scaler(fabric: Devices) -> Any:
    precision = getattr(fabric.strategy, "precision", None)
    return getattr(precision, "scaler", None)
