"""`delta_fast`: a matrix memory beside attention that corrects what a key held, token by token.

    S <- g_t S;  S <- S + beta_t (v_t - S k_t) k_t^T;  o_t = S q_t        k, q of unit length
    beta_t = sigmoid(w_b x_t + b_b)  g_t = exp(-softplus(w_g x_t + b_g)), or 1 with gated=false

DeltaNet (arXiv 2406.06484); gated: Gated DeltaNet (arXiv 2412.06464). kernels/delta/chunk.py has the forms.
Shapes: B batch (lanes), T time, H heads, K head width, D model width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import FastState, Lifetime, Reset
from ttt.adapters.reading import Pass
from ttt.adapters.beside import BesideAttention, into_lanes, out_of_lanes, unit
from ttt.kernels.dispatch import delta


class DeltaFast(BesideAttention):
    """Arguments are explained in conf/adapter/delta_fast.yaml."""

    def __init__(
        self, *, name: str, reset: Reset, carry: str, layers: list[int] | None, heads: int, taps: int, gated: bool
    ) -> None:
        def new_rule(width: int) -> nn.Module:
            return DeltaRule(width, heads=heads, gated=gated)

        # Written at every token: the grid only marks where documents begin.
        super().__init__(
            name=name,
            chunk=1,
            lifetime=Lifetime(reset, carry),
            layers=layers,
            heads=heads,
            taps=taps,
            new_rule=new_rule,
            executor="WY form, 32 tokens at a time, fp32",
        )


class DeltaRule(nn.Module):
    def __init__(self, width: int, *, heads: int, gated: bool) -> None:
        super().__init__()
        self._shape = (1, heads, width, width)
        self.beta_proj = nn.Linear(width * heads, heads)
        # By its start a token keeps 98 % of the memory.
        self.gate_proj = nn.Linear(width * heads, heads) if gated else None
        if self.gate_proj is not None:
            nn.init.zeros_(self.gate_proj.weight)
            nn.init.constant_(self.gate_proj.bias, -4.0)

    def initial(self) -> FastState:
        return {"memory": torch.zeros(self._shape, device=self.beta_proj.weight.device)}

    def recall(self, q_BTHK: Tensor, state: FastState) -> Tensor:
        q_BTHK = unit(q_BTHK)
        memory_BHVK = state["memory"].to(q_BTHK.dtype).expand(len(q_BTHK), -1, -1, -1)
        return torch.einsum("bthk,bhvk->bthv", q_BTHK, memory_BHVK)

    def run(
        self, x_BTD: Tensor, *, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor, state: FastState, now: Pass
    ) -> tuple[Tensor, FastState]:
        lanes, heads = len(x_BTD), self._shape[1]
        real_BT1 = (now.segment_BT >= 0)[..., None]
        beta_BTH = self.beta_proj(x_BTD).float().sigmoid() * real_BT1
        gate_BTH = torch.ones_like(beta_BTH)
        if self.gate_proj is not None:
            gate_BTH = torch.where(real_BT1, torch.exp(-F.softplus(self.gate_proj(x_BTD).float())), 1.0)
        opens_BT1 = now.grid.join(now.resets_BN.expand(lanes, -1)[..., None, None])
        gate_BTH = gate_BTH.masked_fill(opens_BT1, 0.0)
        o_XTK, memory_XKK = delta(
            into_lanes(unit(q_BTHK)),
            k_BTK=into_lanes(unit(k_BTHK)),
            v_BTV=into_lanes(v_BTHK),
            beta_BT=into_lanes(beta_BTH[..., None])[..., 0],
            gate_BT=into_lanes(gate_BTH[..., None])[..., 0],
            state_BVK=state["memory"].expand(lanes, -1, -1, -1).flatten(0, 1),
        )
        return out_of_lanes(o_XTK, heads), {"memory": memory_XKK.unflatten(0, (lanes, heads))}
