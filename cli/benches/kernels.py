"""The gated MLP with `mlp_fast` beside the same MLP without, in every form.

Shapes: B batch, T time, N chunks, C tokens a chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.cli.benches.meter import cost
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.kernels.inplace.choice import Choice, cheapest
from ttt.kernels.inplace.dual import inplace_dual
from ttt.kernels.inplace.lean import inplace_lean
from ttt.kernels.inplace.naive import inplace_naive
from ttt.kernels.inplace.scan import inplace_scan


class Size(NamedTuple):
    """B, T, D, F and C of one layer."""

    batch: int
    length: int
    width: int
    mlp_width: int
    chunk: int


# The main job's size, the two that the project has targets for, and a long sequence.
SIZES = (
    Size(16, 256, 96, 256, 32),
    Size(1, 2048, 256, 688, 64),
    Size(1, 2048, 512, 1536, 128),
    Size(1, 8192, 128, 384, 128),
)
GRID = tuple(
    Size(1, length, width, 3 * width, chunk)
    for width in (64, 128, 512)
    for length in (256, 2048, 8192)
    for chunk in (32, 128, 512)
    if chunk < length
)
# Beyond so many tokens, the loop over tokens and the form whose cost grows with T * T take minutes.
DUAL_TOKENS = LOOP_TOKENS = 2048
LOOP = "loop over tokens"


class GatedLayer:
    """One gated MLP; its memory gets plain linear targets, so that only the memory is timed."""

    def __init__(self, size: Size, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.size = size

        # Divided by the root of the fan-in, so that activations keep their size at every width.
        def draw(*shape: int) -> Tensor:
            return (torch.randn(*shape) / shape[-1] ** 0.5).to(dtype).requires_grad_()

        self.x_BTD = draw(size.batch, size.length, size.width)
        self.gate_FD, self.up_FD = draw(size.mlp_width, size.width), draw(size.mlp_width, size.width)
        self.w0_DF, self.target_DD = draw(size.width, size.mlp_width), draw(size.width, size.width)
        self.chunks = size.length // size.chunk
        self.decay_BN = torch.full((1, self.chunks), 0.9)
        self.start_BDF = torch.zeros(size.batch, size.width, size.mlp_width)

    def hidden(self) -> Tensor:
        """Return the hidden activations z [B, T, F]: the keys of the memory."""
        return F.silu(F.linear(self.x_BTD, self.gate_FD)) * F.linear(self.x_BTD, self.up_FD)

    def plain(self) -> Tensor:
        """Return the output of the MLP without fast weights [B, T, D]."""
        return F.linear(self.hidden(), self.w0_DF)

    def fast(self, form: Callable[..., tuple[Tensor, Tensor]], *, folded: bool) -> Tensor:
        """Return the output with fast weights [B, T, D]; a folded `form` applies W0 itself."""
        z_BTF = self.hidden()
        z_BNCF = z_BTF.unflatten(1, (self.chunks, -1))
        v_BNCD = (self.x_BTD @ self.target_DD).unflatten(1, (self.chunks, -1))
        read_BNCD, _ = form(z_BNCF, k_BNCF=z_BNCF, v_BNCD=v_BNCD, gate_BN=self.decay_BN, state_BDF=self.start_BDF)
        read_BTD = read_BNCD.flatten(1, 2)
        return read_BTD if folded else F.linear(z_BTF, self.w0_DF) + read_BTD

    def sides(self, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
        """Return a call for the plain MLP, then for every form that ends in reasonable time."""
        # The choice for float32 never reads several chunks at once; this form is timed in both.
        block = self._choice(torch.bfloat16).block
        forms: dict[str, Callable[[], Tensor]] = {"plain": self.plain}
        if dtype == torch.float32:
            # Half precision never folds W0 in: the sum of W0 and the state would be rounded.
            folded = partial(inplace_lean, weight_DF=self.w0_DF)
            forms["lean, W0 folded in"] = partial(self.fast, folded, folded=True)
        forms["lean, W0 apart"] = partial(self.fast, inplace_lean, folded=False)
        if block > 1:
            forms[f"lean, {block} chunks"] = partial(self.fast, partial(inplace_lean, block=block), folded=False)
        if self.size.length <= DUAL_TOKENS:
            forms["dual"] = partial(self.fast, inplace_dual, folded=False)
        forms["scan (materialised)"] = partial(self.fast, inplace_scan, folded=False)
        if self.size.length * self.size.batch <= LOOP_TOKENS:
            forms[LOOP] = partial(self.fast, inplace_naive, folded=False)
        return forms

    def _choice(self, dtype: torch.dtype) -> Choice:
        _, _, width, mlp_width, chunk = self.size
        return cheapest(self.chunks, chunk=chunk, width=width, mlp_width=mlp_width, dtype=dtype)

    def picked(self, dtype: torch.dtype) -> str:
        """Return the form that `mlp_fast` would use, by its name in the table."""
        choice = self._choice(dtype)
        if choice.folded:
            return "lean, W0 folded in"
        return f"lean, {choice.block} chunks" if choice.block > 1 else "lean, W0 apart"


def measure_kernels(sizes: Sequence[Size], *, dtypes: Sequence[torch.dtype], rounds: int) -> Iterator[Row]:
    """Yield the rows of every size in every number format."""
    for size in sizes:
        for dtype in dtypes:
            yield from measure_size(size, dtype=dtype, rounds=rounds)


def measure_size(size: Size, *, dtype: torch.dtype, rounds: int) -> Iterator[Row]:
    """Yield one row per form: time, FLOPs, bytes touched and peak memory over the plain MLP's."""
    layer = GatedLayer(size, dtype)
    sides = layer.sides(dtype)
    forward = paired({name: no_grad(call) for name, call in sides.items()}, rounds=rounds)
    # Backward through the loop would need a state of D x F for every token.
    sides.pop(LOOP, None)
    both = paired({name: backward(call) for name, call in sides.items()}, rounds=rounds)
    costs = {name: (cost(no_grad(call)), cost(backward(call))) for name, call in sides.items()}
    for name in sides:
        (f, b), (plain_f, plain_b) = costs[name], costs["plain"]
        yield {
            **_where(size, dtype),
            "form": name + (" *" if name == layer.picked(dtype) else ""),
            "forward": ratio(forward[name], forward["plain"]).median,
            "FLOPs": f.flops / plain_f.flops,
            "forward + backward": ratio(both[name], both["plain"]).median,
            # With a space: one row holds the FLOPs of both columns of times.
            "FLOPs ": b.flops / plain_b.flops,
            "bytes touched": b.touched / plain_b.touched,
            "peak memory": b.peak / plain_b.peak,
        }
    if LOOP in forward:
        slower = ratio(forward[LOOP], forward[layer.picked(dtype)]).median
        yield {
            **_where(size, dtype),
            "form": f"{LOOP}: {slower:.0f} x the form picked",
            "forward": ratio(forward[LOOP], forward["plain"]).median,
        }


def _where(size: Size, dtype: torch.dtype) -> Row:
    return {
        "B x T": f"{size.batch} x {size.length}",
        "D, F": f"{size.width}, {size.mlp_width}",
        "chunk": str(size.chunk),
        "type": str(dtype).removeprefix("torch."),
    }


def no_grad(call: Callable[[], Tensor]) -> Callable[[], None]:
    """Return `call` as a function that needs no gradients and drops the result."""

    def run() -> None:
        with torch.no_grad():
            call()

    return run


def backward(call: Callable[[], Tensor]) -> Callable[[], None]:
    """Return `call` as a function that also runs the backward pass."""

    def run() -> None:
        call().sum().backward()

    return run
