"""FSDP2: parameters, gradients and optimizer state cut over the devices, whole only while a block
computes.

torch's `fully_shard` is applied to every block of a stack and to the learner around them. It
refuses tensors without a dimension (learned step sizes): those stay whole on every device, and
their gradients are averaged here.
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
    """Is it a DTensor?

    Asking by an attribute spares one device the import of torch.distributed.tensor.
    """
    return hasattr(tensor, "full_tensor")


def shard(learner: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Cut the parameters of `learner` over the devices, in place.

    Those that have no numbers yet (ttt/devices/deferred.py) get memory for this device's share.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    whole = {parameter for parameter in learner.parameters() if parameter.dim() == 0}
    over = mesh["data_parallel"]
    # Inner stacks first: each call takes the parameters that no earlier call has taken.
    for stack in reversed([module for module in learner.modules() if isinstance(module, nn.ModuleList)]):
        for block in stack:
            fully_shard(block, mesh=over, ignored_params=whole)
    fully_shard(learner, mesh=over, ignored_params=whole)
    device = torch.device(over.device_type)
    give_memory(learner, device)
    for parameter in learner.parameters():
        if not is_cut(parameter):
            parameter.data = parameter.data.to(device)
    register_fsdp_forward_method(learner, "score")
    return learner


def give_memory(module: nn.Module, device: torch.device) -> None:
    """Give the tensors of a module that have none memory on a device; they stay the same objects.

    So parameters that are tied stay tied, which `nn.Module.to_empty` does not ensure.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_meta:
            empty = torch.empty_like(tensor, device=device)
            is_learned = isinstance(tensor, nn.Parameter)
            new = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_learned else empty
            torch.utils.swap_tensors(tensor, new)


def follow(optimizer: Optimizer, names: Mapping[int, str], learner: nn.Module) -> None:
    """Point an optimizer that has taken no step at the cut parameters.

    `names`: the names of the old parameters, by their id. Whole and cut parameters go into groups
    of their own, because fused steps take no mixture.
    """
    now = dict(learner.named_parameters())
    for group in list(optimizer.param_groups):
        # Only the fused steps of Adam are written for cut tensors.
        if "fused" in group and not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
            group["fused"] = False
        parameters = [now[names[id(parameter)]] for parameter in group["params"]]
        cut = [parameter for parameter in parameters if is_cut(parameter)]
        whole = [parameter for parameter in parameters if not is_cut(parameter)]
        group["params"] = cut or whole
        if cut and whole:
            optimizer.add_param_group({**group, "params": whole})


def whole_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors from cut ones; empty on the devices that do not `keep` them.

    Every device must call this: each gives its share.
    """
    kept_tensors = {}
    # One after another: the device never holds more than one whole tensor.
    for name, tensor in tensors.items():
        whole = tensor.full_tensor().cpu() if is_cut(tensor) else tensor
        if keep:
            kept_tensors[name] = whole.detach()
    return kept_tensors


def placed(whole: Tensor, *, like: Tensor) -> Tensor:
    """This device's share of a whole tensor, if `like` is cut and has its shape."""
    if not is_cut(like) or whole.shape != like.shape:
        return whole
    from torch.distributed.tensor import distribute_tensor

    # Every device has the whole tensor: nothing needs to be sent.
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """This device's part of a tensor that may be cut."""
    return tensor.to_local() if is_cut(tensor) else tensor


def average_whole(fabric: Devices, parameters: Iterable[Tensor]) -> None:
    """Average the gradients of the parameters that are not cut over the devices."""
    for parameter in parameters:
        if parameter.grad is not None and not is_cut(parameter):
            parameter.grad = over_devices(fabric, parameter.grad)


def clip(parameters: Iterable[Tensor], *, max_norm: float) -> None:
    """Clip gradients by the norm of all of them together, of which some are cut."""
    graded = [parameter for parameter in parameters if parameter.grad is not None]
    cut = [parameter for parameter in graded if is_cut(parameter.grad)]
    whole = [parameter for parameter in graded if not is_cut(parameter.grad)]
    norms = [torch.nn.utils.get_total_norm([p.grad for p in part if p.grad is not None]) for part in (cut, whole)]
    total = torch.stack([x.full_tensor() if is_cut(x) else x for x in norms]).norm()
    for group in (cut, whole):
        torch.nn.utils.clip_grads_with_norm_(group, max_norm, total)


@contextmanager
def unsharded(learner: nn.Module) -> Iterator[None]:
    """Keep parameters whole while open, to look at them outside a forward pass."""
    from torch.distributed.fsdp import FSDPModule

    blocks = [module for module in learner.modules() if isinstance(module, FSDPModule)]
    for block in blocks:
        block.unshard()
    yield
    for block in blocks:
        block.reshard()
