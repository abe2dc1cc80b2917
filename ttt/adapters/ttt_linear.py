"""`ttt_linear`: a linear model per head, beside attention; each token trains it to turn k into v.

    f(x; W) = x + LN(W x + b)
    W <- W - eta_t grad 1/2 |f(k_t; W_start) - v_t|^2       o_t = f(q_t; W)
    eta_t = step * sigmoid(w x_t + b) / K * max(p_i, 0)
    p_i: learned, 1/i at first for the i-th token of a chunk

TTT-Linear (arXiv 2407.04620); kernels/ttt_layer/ computes it. The initial W and b are slow weights.
Unlike the paper, p_i scales what token i writes, not what it reads, and keys are not rotated by
their position.
Shapes: B batch (lanes), T time, N chunks, C cells per chunk, H heads, K head width, D model width,
X = B H, Y outputs of a layer.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from ttt.adapters.base import OPEN, Carry, FastState, Lifetime, Reset, RunsOn
from ttt.adapters.beside import BesideAttention
from ttt.adapters.cells import Cells
from ttt.adapters.layers import LayerChoice, check_chunk
from ttt.adapters.reading import Pass
from ttt.kernels.ttt_layer.chunk import ttt_dual
from ttt.kernels.ttt_layer.network import EPS, TTTState


class TTTLinear(BesideAttention):
    """Arguments are explained in conf/adapter/ttt_linear.yaml."""

    # `initial` reads the rule's weights outside a forward pass, where FSDP has sharded them.
    runs_on: RunsOn = "ddp"

    def __init__(
        self,
        *,
        name: str,
        seq_len: int,
        chunk: Annotated[int, Ge(1)],
        reset: Reset,
        carry: Carry,
        layers: LayerChoice,
        heads: Annotated[int, Ge(1)],
        taps: Annotated[int, Ge(1)],
        step: Annotated[float, Gt(0)],
    ) -> None:
        check_chunk(chunk, seq_len=seq_len)

        def new_rule(width: int) -> nn.Module:
            return TTTRule(self.shapes(width), width=width, heads=heads, chunk=chunk, step=step)

        super().__init__(
            name=name, chunk=chunk, lifetime=Lifetime(reset, carry), layers=layers, heads=heads, taps=taps,
            new_rule=new_rule, executor=f"dual form, {chunk} tokens at a time, fp32",
        )  # fmt: skip

    @staticmethod
    def shapes(width: int) -> dict[str, tuple[int, ...]]:
        """The inner model's weights by name, for heads of this width.

        The names tell the rule and the kernel which inner model it is.
        """
        return {"w": (width, width), "b": (width,)}


class TTTRule(nn.Module):
    """The rule for an inner model with weights of these `shapes`.

    The state holds differences to the initial weights, so that zeros mean that nothing is written.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], *, width: int, heads: int, chunk: int, step: float) -> None:
        super().__init__()
        self._heads, self._step = heads, step
        # Matrices start small and random, biases at zero.
        self.start = nn.ParameterDict(
            {name: 0.02 * torch.randn(heads, *shape) * (len(shape) > 1) for name, shape in shapes.items()}
        )
        self.scale_HK = nn.Parameter(torch.ones(heads, width))
        self.shift_HK = nn.Parameter(torch.zeros(heads, width))
        self.eta_proj = nn.Linear(width * heads, heads)
        self.place_C = nn.Parameter(1.0 / torch.arange(1, chunk + 1))

    def initial(self) -> FastState:
        return {name: torch.zeros_like(x).detach()[None] for name, x in self.start.items()}

    def recall(self, q_BTHK: Tensor, state: FastState) -> Tensor:
        weights = {name: x + state[name] for name, x in self.start.items()}
        layers = [("w", "b")] if "w" in weights else [("w1", "b1"), ("w2", "b2")]
        z_BTHK = q_BTHK.to(weights[layers[0][1]].dtype)
        for depth, (w, b) in enumerate(layers):
            z_BTHK = nn.functional.gelu(z_BTHK, approximate="tanh") if depth else z_BTHK
            w_LHYK = weights[w].expand(len(q_BTHK), -1, -1, -1)
            z_BTHK = torch.einsum("bthk,bhyk->bthy", z_BTHK, w_LHYK) + weights[b][:, None]
        return q_BTHK + self.scale_HK * nn.functional.layer_norm(z_BTHK, z_BTHK.shape[-1:], eps=EPS) + self.shift_HK

    def run(
        self, x_BTD: Tensor, *, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor, state: FastState, now: Pass
    ) -> tuple[Tensor, FastState]:
        cells = Cells(now, lanes=len(x_BTD), heads=self._heads)
        # The kernel works on the weights themselves, so differences are added to their start here
        # and subtracted again at the end.
        first = {name: cells.lanes(x[None]) for name, x in self.start.items()}
        running = {name: x + cells.lanes(state[name]) for name, x in first.items()}
        start = {
            name: cells.begin(first[name] + cells.lanes(state.get(f"{OPEN}start_{name}", state[name])), x)
            for name, x in running.items()
        }
        o_XNCK, last = ttt_dual(
            cells.split(q_BTHK),
            k_BNCK=cells.split(k_BTHK),
            v_BNCK=cells.split(v_BTHK),
            eta_BNC=self._eta(x_BTD, cells, width=q_BTHK.shape[-1]),
            scale_BK=cells.lanes(self.scale_HK[None]),
            shift_BK=cells.lanes(self.shift_HK[None]),
            token_BNC=cells.token_XNC,
            opens_BN=cells.resets_XN,
            closes_BN=cells.ends_XN,
            state=TTTState(start, running),
            initial=first,
        )
        after = {name: cells.unlanes(x - first[name]) for name, x in last.running.items()}
        after |= {f"{OPEN}start_{name}": cells.unlanes(x - first[name]) for name, x in last.start.items()}
        return cells.join(o_XNCK), after

    def _eta(self, x_BTD: Tensor, cells: Cells, *, width: int) -> Tensor:
        """The step size of each cell, [B H, N, C]."""
        eta_XNC = cells.split(self.eta_proj(x_BTD).float().sigmoid()[..., None])[..., 0]
        # Clamped: a place whose learned share turns negative would ascend the loss.
        return self._step / width * eta_XNC * self.place_C.clamp(min=0.0)[cells.place_XNC]
