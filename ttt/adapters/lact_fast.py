"""`lact_fast`: a SwiGLU network per head, beside attention, written once per large chunk.

    f(x) = W1 (silu(W0 x) * (W2 x))       o_t = f(q_t), with the weights from before the chunk
    G_j = sum over the chunk of lr_jt grad_j <f(k_t), v_t>
    M <- mu M + G      W <- rownorm(W + Muon(M))
    lr_jt = softplus(w_j x_t + b_j)       mu = mean of sigmoid(w x_t + b)
    k, q, v pass a silu; k and q then have unit length

LaCT (arXiv 2505.23884); kernels/lact/ computes it. The initial W are slow weights.
Shapes: B batch (lanes), T time, N chunks, C cells per chunk, H heads, K head width, D model width,
X = B H, J = 3 weights.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from ttt.adapters.base import OPEN, Carry, FastState, Lifetime, Reset, RunsOn
from ttt.adapters.beside import BesideAttention, unit
from ttt.adapters.cells import Cells
from ttt.adapters.layers import LayerChoice, check_chunk
from ttt.adapters.reading import Pass
from ttt.kernels.lact.chunk import lact_chunk
from ttt.kernels.lact.memory import NAMES, LactState, swiglu


class LactFast(BesideAttention):
    """Arguments are explained in conf/adapter/lact_fast.yaml."""

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
        expand: Annotated[int, Ge(1)],
        step: Annotated[float, Gt(0)],
        muon: bool,
    ) -> None:
        check_chunk(chunk, seq_len=seq_len)
        super().__init__(
            name=name, chunk=chunk, lifetime=Lifetime(reset, carry), layers=layers, heads=heads, taps=taps,
            new_rule=lambda width: LactRule(width, heads=heads, expand=expand, step=step, muon=muon),
            executor=f"chunk after chunk, {chunk} tokens at a time, fp32",
        )  # fmt: skip


class LactRule(nn.Module):
    """Gradient steps with momentum on <f(k), v>, one per chunk.

    The state holds differences to the initial weights, so that zeros mean that nothing is written.
    """

    def __init__(self, width: int, *, heads: int, expand: int, step: float, muon: bool) -> None:
        super().__init__()
        self._heads, self._muon = heads, muon
        hidden = expand * width
        shapes = {"w0": (hidden, width), "w1": (width, hidden), "w2": (hidden, width)}
        self.start = nn.ParameterDict(
            {name: torch.randn(heads, *shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
        )
        self.lr_proj = nn.Linear(width * heads, 3 * heads)
        nn.init.zeros_(self.lr_proj.weight)
        # The inverse of softplus: every learning rate starts at `step`.
        nn.init.constant_(self.lr_proj.bias, math.log(math.expm1(step)))
        self.mu_proj = nn.Linear(width * heads, heads)

    def initial(self) -> FastState:
        zeros = {name: torch.zeros_like(x).detach()[None] for name, x in self.start.items()}
        return zeros | {f"momentum_{name}": x for name, x in zeros.items()}

    def recall(self, q_BTHK: Tensor, state: FastState) -> Tensor:
        weights = {name: self.start[name] + state[name] for name in NAMES}
        return swiglu(unit(F.silu(q_BTHK)).movedim(2, 1), weights=weights).movedim(1, 2)

    def run(
        self, x_BTD: Tensor, *, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor, state: FastState, now: Pass
    ) -> tuple[Tensor, FastState]:
        cells = Cells(now, lanes=len(x_BTD), heads=self._heads)
        first = {name: cells.lanes(self.start[name][None]) for name in NAMES}
        # Rates are computed in fp32: they scale sums over hundreds of tokens.
        lr_BTHJ = F.softplus(self.lr_proj(x_BTD).float()).unflatten(-1, (self._heads, 3))
        o_XNCK, last = lact_chunk(
            cells.split(unit(F.silu(q_BTHK))),
            k_BNCK=cells.split(unit(F.silu(k_BTHK))),
            v_BNCK=cells.split(F.silu(v_BTHK)),
            lr_BNCJ=cells.split(lr_BTHJ),
            mu_BNC=cells.split(self.mu_proj(x_BTD).float().sigmoid()[..., None])[..., 0],
            token_BNC=cells.token_XNC,
            opens_BN=cells.resets_XN,
            begins_BN=cells.begins_XN,
            closes_BN=cells.closes_XN,
            state=_kernel_state(state, first, cells),
            initial=first,
            muon=self._muon,
        )
        after = {name: last.weights[name] - first[name] for name in NAMES}
        after |= {f"momentum_{name}": last.momentum[name] for name in NAMES}
        after |= {f"{OPEN}pending_{name}": last.pending[name] for name in NAMES}
        after |= {f"{OPEN}mu_sum": last.mu_sum_B, f"{OPEN}tokens": last.count_B}
        return cells.join(o_XNCK), {name: cells.unlanes(x) for name, x in after.items()}


def _kernel_state(state: FastState, first: dict[str, Tensor], cells: Cells) -> LactState:
    """The state as the kernel wants it: whole weights instead of differences, heads as lanes.

    An open chunk has gradients that wait for its end (`pending`), and a part of the mean of mu.
    """
    none_X = torch.zeros_like(first["w0"][:, 0, 0])
    pending = {name: state.get(f"{OPEN}pending_{name}", torch.zeros_like(state[name])) for name in NAMES}
    return LactState(
        weights={name: first[name] + cells.lanes(state[name]) for name in NAMES},
        momentum={name: cells.lanes(state[f"momentum_{name}"]) for name in NAMES},
        pending={name: cells.lanes(x) for name, x in pending.items()},
        mu_sum_B=cells.lanes(state[f"{OPEN}mu_sum"]) if f"{OPEN}mu_sum" in state else none_X,
        count_B=cells.lanes(state[f"{OPEN}tokens"]) if f"{OPEN}tokens" in state else none_X,
    )
