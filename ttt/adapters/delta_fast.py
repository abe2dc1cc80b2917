"""`delta_fast`: a matrix memory beside attention; each token corrects the value at its key.

    S <- g_t S;  S <- S + beta_t (v_t - S k_t) k_t^T;  o_t = S q_t        k, q of unit length
    beta_t = sigmoid(w_b x_t + b_b)  g_t = exp(-softplus(w_g x_t + b_g)), or 1 with gated=false

DeltaNet (arXiv 2406.06484); gated: Gated DeltaNet (arXiv 2412.06464). The forms in which it is
computed are in kernels/delta/.
Shapes: B batch (lanes), T time, H heads, K head width, D model width, X = B H.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from ttt.adapters.base import Carry, FastState, Lifetime, Reset
from ttt.adapters.beside import BesideAttention, unit
from ttt.adapters.cells import into_lanes, out_of_lanes
from ttt.adapters.layers import LayerChoice
from ttt.adapters.reading import Pass
from ttt.kernels.dispatch import delta


class DeltaFast(BesideAttention):
    """Arguments are explained in conf/adapter/delta_fast.yaml."""

    def __init__(
        self,
        *,
        name: str,
        reset: Reset,
        carry: Carry,
        layers: LayerChoice,
        heads: Annotated[int, Ge(1)],
        taps: Annotated[int, Ge(1)],
        gated: bool,
    ) -> None:
        # Each token writes at once: the grid's chunks of one token only mark where documents begin.
        super().__init__(
            name=name, chunk=1, lifetime=Lifetime(reset, carry), layers=layers, heads=heads, taps=taps,
            new_rule=lambda width: DeltaRule(width, heads=heads, gated=gated),
            executor="WY form, 32 tokens at a time, fp32",
        )  # fmt: skip
        self.crossing = 1


class DeltaRule(nn.Module):
    """The delta rule with learned writing strength and, if `gated`, a learned forgetting gate."""

    def __init__(self, width: int, *, heads: int, gated: bool) -> None:
        super().__init__()
        self._shape = (1, heads, width, width)
        self.beta_proj = nn.Linear(width * heads, heads)
        self.gate_proj = nn.Linear(width * heads, heads) if gated else None
        if self.gate_proj is not None:
            # At the start 98 % of the memory outlives a token: half of it lasts for 38 tokens.
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
        o_XTK, memory_XKK = delta(
            into_lanes(unit(q_BTHK)),
            k_BTK=into_lanes(unit(k_BTHK)),
            v_BTV=into_lanes(v_BTHK),
            beta_BT=into_lanes(self._beta(x_BTD, now)[..., None])[..., 0],
            gate_BT=into_lanes(self._gate(x_BTD, now)[..., None])[..., 0],
            state_BVK=state["memory"].expand(lanes, -1, -1, -1).flatten(0, 1),
        )
        return out_of_lanes(o_XTK, heads), {"memory": memory_XKK.unflatten(0, (lanes, heads))}

    def _beta(self, x_BTD: Tensor, now: Pass) -> Tensor:
        """Writing strengths [B, T, H]; padding writes nothing."""
        return self.beta_proj(x_BTD).float().sigmoid() * (now.segment_BT >= 0)[..., None]

    def _gate(self, x_BTD: Tensor, now: Pass) -> Tensor:
        """The share of the memory that each token keeps, [B, T, H]; padding keeps all."""
        lanes, heads = len(x_BTD), self._shape[1]
        gate_BTH = x_BTD.new_ones(*x_BTD.shape[:2], heads, dtype=torch.float32)
        if self.gate_proj is not None:
            real_BT1 = (now.segment_BT >= 0)[..., None]
            gate_BTH = torch.where(real_BT1, torch.exp(-F.softplus(self.gate_proj(x_BTD).float())), 1.0)
        # The kernel knows no documents: a gate of zero forgets everything before a document.
        opens_BT1 = now.grid.join(now.resets_BN.expand(lanes, -1)[..., None, None])
        return gate_BTH.masked_fill(opens_BT1, 0.0)
