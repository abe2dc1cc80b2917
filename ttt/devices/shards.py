"""FSDP2: parameters, gradients and optimizer state cut over the devices, whole only while a block computes.

torch's `fully_shard` on every block of a stack and on the learner around them. It refuses numbers without a
dimension (learned step sizes): those stay whole on every device, and their gradients are averaged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ttt.devices.collective import over_devices
from ttt.devices.one_device import Devices

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


def is_cut(tensor: Any) -> TypeGuard[DTensor]:
    """Is it a DTensor? Asked so that one device need not import what knows."""
    return hasattr(tensor, "full_tensor")


def shard(learner: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Cut the parameters of `learner` over the devices, in place."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    whole = {parameter for parameter in learner.parameters() if parameter.dim() == 0}
    over = mesh["data_parallel"]
    # Inner stacks first: each block takes what is not taken yet.
    for stack in reversed([module for module in learner.modules() if isinstance(module, nn.ModuleList)]):
        for block in stack:
            fully_shard(block, mesh=over, ignored_params=whole)
    fully_shard(learner, mesh=over, ignored_params=whole)
    for parameter in whole:
        parameter.data = parameter.data.to(torch.device(over.device_type))
    register_fsdp_forward_method(learner, "score")
    return learner


def follow(optimizer: Optimizer, names: Mapping[int, str], learner: nn.Module) -> None:
    """Point an optimizer that has taken no step at the cut parameters; `names`: of the old ones, by their id.

    Whole and cut ones go into groups of their own: fused steps take no mixture.
    """
    now = dict(learner.named_parameters())
    for group in list(optimizer.param_groups):
        # Of torch's fused steps only Adam's are written for cut tensors.
        if "fused" in group and not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
            group["fused"] = False
        parameters = [now[names[id(parameter)]] for parameter in group["params"]]
        cut = [parameter for parameter in parameters if is_cut(parameter)]
        whole = [parameter for parameter in parameters if not is_cut(parameter)]
        group["params"] = cut or whole
        if cut and whole:
            optimizer.add_param_group({**group, "params": whole})


def whole_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors from cut ones, one after another; every device must ask, those that `keep` them get them."""
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor().cpu() if is_cut(tensor) else tensor
        if keep:
            found[name] = whole.detach()
    return found


def placed(whole: Tensor, *, like: Tensor) -> Tensor:
    """This device's share of a whole tensor, if `like` is cut and has its shape."""
    if not is_cut(like) or whole.shape != like.shape:
        return whole
    from torch.distributed.tensor import distribute_tensor

    # Every device has the whole tensor: nothing needs to be sent.
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def average_whole(fabric: Devices, parameters: Iterable[Tensor]) -> None:
    """Gradients of what is not cut: their mean over the devices."""
    for parameter in parameters:
        if parameter.grad is not None and not is_cut(parameter):
            parameter.grad = over_devices(fabric, parameter.grad)


def clip(parameters: Iterable[Tensor], *, max_norm: float) -> None:
    """torch's clipping by the norm of all gradients, of which some are cut."""
    graded = [parameter for parameter in parameters if parameter.grad is not None]
    cut = [parameter for parameter in graded if is_cut(parameter.grad)]
    whole = [parameter for parameter in graded if not is_cut(parameter.grad)]
    norms = [torch.nn.utils.get_total_norm([p.grad for p in part if p.grad is not None]) for part in (cut, whole)]
    total = torch.stack([x.full_tensor() if is_cut(x) else x for x in norms]).norm()
    for group in (cut, whole):
        torch.nn.utils.clip_grads_with_norm_(group, max_norm, total)


@contextmanager
def unsharded(learner: nn.Module) -> Iterator[None]:
    """Parameters are whole while open: for looking at them outside a pass."""
    from torch.distributed.fsdp import FSDPModule

    blocks = [module for module in learner.modules() if isinstance(module, FSDPModule)]
    for block in blocks:
        block.unshard()
    yield
    for block in blocks:
        block.reshard()
