"""The gated MLP with `mlp_fast` against the same MLP without, forward and forward + backward.

Shapes: B batch, T time, D model width, F feed-forward width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from ttt.cli.bench import paired, ratio
from ttt.kernels import inplace

from ttt.adapters.mlp_fast import MlpFast
from ttt.models.nano import GatedMLP
from ttt.stream import Batch


class Size(NamedTuple):
    batch: int
    length: int
    width: int
    mlp_width: int
    chunk: int


SIZES = (
    Size(16, 256, 96, 256, 32),
    Size(8, 512, 256, 688, 64),
    Size(2, 2048, 256, 688, 64),
    Size(1, 8192, 256, 688, 512),
)
VOCAB = 256


class MlpModel(nn.Module):
    """Just enough of a model for an adapter to attach to."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCAB, size.width)
        self.mlp = GatedMLP(size.width, mlp_width=size.mlp_width)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens


def measure(*, rounds: int) -> list[dict[str, float | str]]:
    return [measure_size(size, rounds=rounds) for size in SIZES]


def measure_size(size: Size, *, rounds: int) -> dict[str, float | str]:
    """Time and FLOPs of one MLP, and which of the two fast forms is the quicker one here."""
    torch.manual_seed(0)
    plain, model = MlpModel(size), MlpModel(size)
    model.load_state_dict(copy.deepcopy(plain.state_dict()))
    adapter = MlpFast(
        name="mlp_fast", seq_len=size.length, chunk=size.chunk, reset="sequence", carry="mean", decay=0.9,
        step=0.1, learn_step=True, keys="l2", centre=False, taps=5, projection=0.3,
    )  # fmt: skip
    adapter.attach(model)
    tokens_BT = torch.randint(VOCAB, (size.batch, size.length))
    batch = Batch(tokens_BT, tokens_BT, torch.zeros_like(tokens_BT))
    x_BTD = torch.randn(size.batch, size.length, size.width, requires_grad=True)

    def without() -> Tensor:
        return plain.mlp(x_BTD)

    def with_fast() -> Tensor:
        with adapter.reading(batch, adapter.initial(), write=True):
            out: Tensor = model.mlp(x_BTD)
            return out

    forward = paired({"without": no_grad(without), "with": no_grad(with_fast)}, rounds=rounds)
    both = paired({"without": backward(without), "with": backward(with_fast)}, rounds=rounds)
    forms = time_forms(size, rounds=rounds)
    return {
        "B x T": f"{size.batch} x {size.length}",
        "D, F": f"{size.width}, {size.mlp_width}",
        "chunk": str(size.chunk),
        "forward": ratio(forward["with"], forward["without"])[1],
        "forward + backward": ratio(both["with"], both["without"])[1],
        "FLOPs forward": flops(with_fast) / flops(without),
        "dual over scan": ratio(forms["inplace_dual"], forms["inplace_scan"])[1],
        "picked": inplace.cheaper_form(size.length, width=size.width, mlp_width=size.mlp_width).__name__,
    }


def time_forms(size: Size, *, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of the memory alone, forward and backward, in each of its fast forms."""
    chunks = size.length // size.chunk
    q, k = (torch.randn(size.batch, chunks, size.chunk, size.mlp_width, requires_grad=True) for _ in range(2))
    v = torch.randn(size.batch, chunks, size.chunk, size.width, requires_grad=True)
    gate, state = torch.full((1, chunks), 0.9), torch.zeros(size.batch, size.width, size.mlp_width)

    def call(form: inplace.Form) -> Callable[[], None]:
        return backward(lambda: form(q, k_BNCF=k, v_BNCD=v, gate_BN=gate, state_BDF=state)[0])

    return paired({form.__name__: call(form) for form in (inplace.inplace_dual, inplace.inplace_scan)}, rounds=rounds)


def no_grad(call: Callable[[], Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            call()

    return run


def backward(call: Callable[[], Tensor]) -> Callable[[], None]:
    def run() -> None:
        call().sum().backward()

    return run


def flops(call: Callable[[], Tensor]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
