"""`hebb`: a matrix beside attention to which each token adds; what is old fades.

    S <- decay S + v k^T;  o = S q          k, q of unit length

The plainest fast weights: nothing is corrected, nothing but a step per head is learned.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from ttt.adapters.base import Lifetime, Reset
from ttt.adapters.beside import BesideAttention, unit
from ttt.adapters.reading import Pass


class Hebb(BesideAttention):
    def __init__(
        self,
        *,
        name: str,
        reset: Reset,
        heads: Annotated[int, Ge(1)],
        decay: Annotated[float, Gt(0), Le(1)],
    ) -> None:
        super().__init__(
            name=name,
            chunk=1,
            lifetime=Lifetime(reset, "mean"),
            layers=None,
            heads=heads,
            taps=4,
            new_rule=lambda width: HebbRule(width, heads=heads, decay=decay),
            executor="token by token, fp32",
        )


class HebbRule(nn.Module):
    def __init__(self, width: int, *, heads: int, decay: float) -> None:
        super().__init__()
        self.shape, self.decay = (1, heads, width, width), decay
        # A learned step per head; it also says on which device the state begins.
        self.step_H = nn.Parameter(torch.full((heads,), 0.1))

    def initial(self) -> dict[str, Tensor]:
        return {"memory": torch.zeros(self.shape, device=self.step_H.device)}

    def recall(self, q_BTHK: Tensor, state: dict[str, Tensor]) -> Tensor:
        memory_BHVK = state["memory"].to(q_BTHK.dtype).expand(len(q_BTHK), -1, -1, -1)
        return torch.einsum("bthk,bhvk->bthv", unit(q_BTHK).to(q_BTHK.dtype), memory_BHVK)

    def run(
        self, x_BTD: Tensor, *, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor, state: dict[str, Tensor], now: Pass
    ) -> tuple[Tensor, dict[str, Tensor]]:
        q_BTHK, k_BTHK, v_BTHK = unit(q_BTHK), unit(k_BTHK), v_BTHK.float()
        lanes = len(x_BTD)
        # Padding writes nothing and lets nothing fade; a document begins with an empty matrix.
        real_BT = (now.segment_BT >= 0).float()
        fades_BT = torch.where(real_BT > 0, self.decay, 1.0)
        opens_BT = now.grid.join(now.resets_BN.expand(lanes, -1)[..., None, None])[..., 0]
        fades_BT = fades_BT.masked_fill(opens_BT, 0.0)
        memory_BHVK = state["memory"].expand(lanes, -1, -1, -1)
        reads = []
        for t in range(x_BTD.shape[1]):
            write_BHVK = torch.einsum("bhv,bhk,h->bhvk", v_BTHK[:, t], k_BTHK[:, t], self.step_H)
            memory_BHVK = fades_BT[:, t, None, None, None] * memory_BHVK
            memory_BHVK = memory_BHVK + real_BT[:, t, None, None, None] * write_BHVK
            reads.append(torch.einsum("bhvk,bhk->bhv", memory_BHVK, q_BTHK[:, t]))
        return torch.stack(reads, dim=1), {"memory": memory_BHVK}
