"""Inputs for kernels, and what a form returns for them: outputs, states and all gradients.

Shapes: B batch, T time, N chunks, C cells per chunk, K key width, V value width, D model width,
F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """Random tensors in float64."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def rate(self, *shape: int) -> Tensor:
        """Draw numbers in [0, 1] with exact zeros and ones among them."""
        return (self.uniform(*shape) * 1.5 - 0.25).clamp(0, 1)

    def flag(self, *shape: int, share: float = 0.3) -> Tensor:
        return self.uniform(*shape) < share


def delta_inputs(seed: int, b: int, t: int, k: int, v: int) -> dict[str, Tensor]:
    draws = Draws(seed)
    return {
        "q_BTK": draws.normal(b, t, k),
        "k_BTK": draws.normal(b, t, k) / k**0.5,
        "v_BTV": draws.normal(b, t, v),
        "beta_BT": draws.rate(b, t),
        "gate_BT": draws.rate(b, t),
        "state_BVK": draws.normal(b, v, k),
    }


def memory_inputs(seed: int, b: int, n: int, c: int, f: int, d: int) -> dict[str, Tensor]:
    """Return inputs of the in-place memory."""
    draws = Draws(seed)
    return {
        "q_BNCF": draws.normal(b, n, c, f),
        "k_BNCF": draws.normal(b, n, c, f),
        "v_BNCD": draws.normal(b, n, c, d),
        "gate_BN": draws.rate(b, n),
        "state_BDF": draws.normal(b, d, f),
    }


def grid_inputs(draws: Draws, b: int, n: int, c: int, k: int) -> dict[str, Tensor]:
    """Return the inputs that TTT layers and LaCT share; lanes share their flags in some draws."""
    lanes = 1 if draws.flag(1).item() else b
    return {
        "q_BNCK": draws.normal(b, n, c, k),
        "k_BNCK": draws.normal(b, n, c, k),
        "v_BNCK": draws.normal(b, n, c, k),
        "token_BNC": draws.flag(b, n, c, share=0.7),
        "opens_BN": draws.flag(lanes, n),
        "closes_BN": draws.flag(lanes, n, share=0.6),
    }


def leaves(nest) -> list[Tensor]:
    """Return all tensors of a nest of dicts and tuples."""
    if isinstance(nest, Tensor):
        return [nest]
    return [x for item in (nest.values() if isinstance(nest, dict) else nest) for x in leaves(item)]


def mapped(nest, change):
    """Return the same nest with `change` applied to every tensor."""
    if isinstance(nest, Tensor):
        return change(nest)
    if isinstance(nest, dict):
        return {name: mapped(item, change) for name, item in nest.items()}
    items = (mapped(item, change) for item in nest)
    return type(nest)(*items) if hasattr(nest, "_fields") else type(nest)(items)


def cast(nest, dtype: torch.dtype):
    """Return the same nest with its floating tensors in another dtype."""
    return mapped(nest, lambda x: x.to(dtype) if x.is_floating_point() else x)


def call(form, inputs: dict, **options):
    """Call a form: its first input goes by position, the others by name."""
    (_, first), *others = inputs.items()
    return form(first, **dict(others), **options)


def outcome(form, inputs: dict, *, learned: set[str] | None = None, seen: Tensor | None = None) -> list[Tensor]:
    """Return outputs, states, and the gradient of their weighted sum to every floating input.

    `learned`: the inputs that want a gradient (None: all). `seen`: the mask of reads that count.
    """
    trained = {name: learned is None or name in learned for name in inputs}
    inputs = {name: mapped(nest, lambda x, on=trained[name]: leaf(x, learned=on)) for name, nest in inputs.items()}
    values = leaves(call(form, inputs))
    if seen is not None:
        values[0] = values[0] * seen
    parameters = [x for x in leaves(inputs) if x.requires_grad]
    # A gradient that no token uses is None in one form and zeros in another: both count as zeros.
    gradients = torch.autograd.grad(weighted(values), parameters, allow_unused=True, materialize_grads=True)
    return [x.detach() for x in values] + list(gradients)


def leaf(x: Tensor, *, learned: bool = True) -> Tensor:
    return x.detach().clone().requires_grad_(learned and x.is_floating_point())


def weighted(values: list[Tensor]) -> Tensor:
    """Sum the entries of all values and their squares, each with a weight of its own."""
    terms = [(x + x.square()) * torch.linspace(-1, 1, x.numel()).view_as(x).to(x.device) for x in values]
    return sum((term.double().sum() for term in terms), torch.zeros((), dtype=torch.float64, device=values[0].device))


def assert_same(got: list[Tensor], expected: list[Tensor], rtol: float = 1e-8, *, check_dtype: bool = True) -> None:
    """Compare tensors; the tolerance is relative to the largest number of each, or to 1."""
    for x, y in zip(got, expected, strict=True):
        atol = rtol * max(1.0, float(y.detach().abs().max()))
        torch.testing.assert_close(x, y, rtol=rtol, atol=atol, check_dtype=check_dtype)


def assert_split_is_the_same(form, inputs: dict, at: int = 2) -> None:
    """Check that six pieces, three chunks cut in the middle, give what one call gives."""
    inputs["closes_BN"] = torch.tensor([[True, False, True], [False, True, True]])
    inputs["opens_BN"] = torch.tensor([[False, False, True], [True, False, False]])
    whole, last = call(form, inputs)
    never = torch.zeros(1, 1, dtype=torch.bool)
    reads, state = [], inputs["state"]
    for n in range(3):
        for half in (slice(None, at), slice(at, None)):
            part = {name: x[:, n : n + 1] for name, x in inputs.items() if name.endswith(("NCK", "NC", "NCJ", "_BN"))}
            part = {name: x if name.endswith("_BN") else x[:, :, half] for name, x in part.items()}
            # Only the first half opens or begins a chunk, only the second closes it.
            part |= dict.fromkeys({"opens_BN", "begins_BN"} & set(part), never) if half.start else {"closes_BN": never}
            read, state = call(form, inputs | part | {"state": state})
            reads.append(read)
    split = torch.cat(reads, dim=1).unflatten(1, (3, 2)).flatten(2, 3)
    assert_same([split, *leaves(state)], [whole, *leaves(last)], rtol=1e-10)
