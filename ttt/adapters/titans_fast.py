"""`titans_fast`: a matrix memory beside attention with momentum and a forgetting gate.

    u_t = v_t - S_start k_t;  m <- mu_t m + theta_t u_t k_t^T
    S <- (1 - alpha_t) S + m;  o_t = S q_t
    theta, mu, alpha = sigmoid(w x_t + b), each with w and b of its own
    S_start: the memory at the beginning of the chunk

Titans (arXiv 2501.00663), memory-augmented network, linear memory. The forms in which it is
computed are in kernels/titans/.
Shapes: B batch (lanes), T time, N chunks, C cells per chunk, H heads, K head width, D model width,
X = B H.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ttt.adapters.base import OPEN, Carry, FastState, Lifetime, Reset
from ttt.adapters.beside import BesideAttention, unit
from ttt.adapters.cells import Cells
from ttt.adapters.layers import LayerChoice, check_chunk
from ttt.adapters.reading import Pass
from ttt.kernels.titans.chunk import titans_chunk
from ttt.kernels.titans.naive import titans_naive
from ttt.kernels.titans.state import TitansState

# Biases of the gates at the start: a gradient step of 0.12, half of the momentum kept, 2 % of the
# memory forgotten per token.
STARTS = {"theta": -2.0, "mu": 0.0, "alpha": -4.0}


class TitansFast(BesideAttention):
    """Arguments are explained in conf/adapter/titans_fast.yaml."""

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
    ) -> None:
        check_chunk(chunk, seq_len=seq_len)
        super().__init__(
            name=name, chunk=chunk, lifetime=Lifetime(reset, carry), layers=layers, heads=heads, taps=taps,
            new_rule=lambda width: TitansRule(width, heads=heads),
            executor=f"products of gates, {chunk} tokens at a time, fp32",
        )  # fmt: skip
        self.crossing = chunk


class TitansRule(nn.Module):
    """Gradient descent with momentum and weight decay, all three rates learned per token."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self._shape = (1, heads, width, width)
        self.rates = nn.ModuleDict({name: nn.Linear(width * heads, heads) for name in STARTS})
        for name, start in STARTS.items():
            rate: nn.Linear = self.rates[name]  # type: ignore[assignment]
            nn.init.zeros_(rate.weight)
            nn.init.constant_(rate.bias, start)

    def initial(self) -> FastState:
        zeros = torch.zeros(self._shape, device=next(self.parameters()).device)
        return {"memory": zeros, "momentum": zeros}

    def recall(self, q_BTHK: Tensor, state: FastState) -> Tensor:
        q_BTHK = unit(q_BTHK)
        memory_BHVK = state["memory"].to(q_BTHK.dtype).expand(len(q_BTHK), -1, -1, -1)
        return torch.einsum("bthk,bhvk->bthv", q_BTHK, memory_BHVK)

    def run(
        self, x_BTD: Tensor, *, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor, state: FastState, now: Pass
    ) -> tuple[Tensor, FastState]:
        cells = Cells(now, lanes=len(x_BTD), heads=self._shape[1])
        # In fp32: just below 1 the steps of bf16 are 0.004, too coarse for a product of 1 - alpha
        # over many tokens.
        rate = {name: cells.split(self.rates[name](x_BTD).float().sigmoid()[..., None])[..., 0] for name in STARTS}
        memory_XKK, momentum_XKK = cells.lanes(state["memory"]), cells.lanes(state["momentum"])
        start_XKK = cells.begin(cells.lanes(state.get(f"{OPEN}start", state["memory"])), memory_XKK)
        # With one cell per chunk there is nothing to do in parallel, and the loop is cheaper.
        form = titans_naive if cells.size == 1 else titans_chunk
        o_XNCK, last = form(
            cells.split(unit(q_BTHK)),
            k_BNCK=cells.split(unit(k_BTHK)),
            v_BNCV=cells.split(v_BTHK),
            theta_BNC=rate["theta"],
            mu_BNC=rate["mu"],
            alpha_BNC=rate["alpha"],
            token_BNC=cells.token_XNC,
            opens_BN=cells.resets_XN,
            closes_BN=cells.ends_XN,
            state=TitansState(start_XKK, memory_XKK, momentum_XKK),
            initial_BVK=torch.zeros_like(memory_XKK),
        )
        after = {"memory": last.memory_BVK, "momentum": last.momentum_BVK, f"{OPEN}start": last.start_BVK}
        return cells.join(o_XNCK), {key: cells.unlanes(x) for key, x in after.items()}
