"""The last tokens of each lane, in order, as a state and as what a pass may look at.

    state   [empty ... empty, oldest ... newest]
    window  [state, tokens of the batch], without its gaps: padding and empty places go to the left

A value is a token that follows another one of its document: what a cache predicts. Tokens are kept
as id + 1, negative where a document begins, so that an empty place is zero.
Shapes: B batch (lanes), L = 1 or B lanes of a state, T time, S places of a state, A = S + T places
of a window, D model width, P places of a pool, R queries, K values in sight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import OPEN, FastState
from ttt.kernels.chunks import NOTHING_READ
from ttt.stream import Batch

# For queries at places [B, R] that see values [B, R, K], those in a slice of the window: the weight
# of each value in the prediction of the next token, and what is left to the model, [B, R].
Find = Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor]]
TOKENS, SEGMENT, NEW = "tokens", f"{OPEN}segment", f"{OPEN}new"


@dataclass(frozen=True)
class Window:
    """What one pass may look at, lane by lane, in places 0 .. A - 1 from the oldest to the newest.

    `order_BA`: where the token of each place comes from in [state, batch]. `place_BT`: where each
    token of the batch lies. `is_value_BA`: the token may be predicted from those before it.
    `start_BA`: the place where the document of each token starts. `last_B`: segment of the newest
    token.
    """

    token_BA: Tensor
    is_filled_BA: Tensor
    begins_BA: Tensor
    is_value_BA: Tensor
    start_BA: Tensor
    order_BA: Tensor
    place_BT: Tensor
    last_B: Tensor

    @classmethod
    def of(cls, batch: Batch, state: FastState, *, write: bool) -> Window:
        """Put the tokens of `batch` behind those of `state`; without `write` they are no values."""
        segment_BT, before_B = batch.segment_BT, _segment_before(batch, state)
        kept_BS = state[TOKENS].expand(len(segment_BT), -1)
        is_real_BT = segment_BT >= 0
        is_filled_BA = torch.cat([kept_BS != 0, is_real_BT], 1)
        # Stable: tokens stay in order, and whatever is no token moves to the left of them.
        order_BA = is_filled_BA.to(torch.uint8).argsort(dim=1, stable=True)
        token_BA = torch.cat([kept_BS.abs().long() - 1, batch.tokens_BT], 1).gather(1, order_BA)
        is_filled_BA = is_filled_BA.gather(1, order_BA)
        segment_BA = torch.cat([before_B[:, None].expand_as(kept_BS), segment_BT], 1).gather(1, order_BA)
        is_new_BA = order_BA >= kept_BS.shape[1]
        began_BA = torch.cat([kept_BS < 0, torch.zeros_like(is_real_BT)], 1).gather(1, order_BA)
        changes_BA = segment_BA != torch.cat([before_B[:, None], segment_BA[:, :-1]], 1)
        begins_BA = is_filled_BA & (began_BA | (is_new_BA & changes_BA))
        # The oldest token that was kept has lost the one before it.
        first_BA = is_filled_BA & ~F.pad(is_filled_BA, (1, -1))
        place_A = torch.arange(token_BA.shape[1], device=token_BA.device)
        return cls(
            token_BA=token_BA,
            is_filled_BA=is_filled_BA,
            begins_BA=begins_BA,
            is_value_BA=is_filled_BA & ~begins_BA & ~first_BA & (write | ~is_new_BA),
            start_BA=torch.where(begins_BA | first_BA, place_A, 0).cummax(1).values,
            order_BA=order_BA,
            place_BT=order_BA.argsort(1)[:, kept_BS.shape[1] :],
            last_B=torch.where(is_real_BT.any(1), segment_BA[:, -1], before_B),
        )

    def placed(self, kept_LSD: Tensor, new_BTD: Tensor) -> Tensor:
        """Vectors of the state and of the batch in the places of their tokens, [B, A, D]."""
        all_BAD = torch.cat([kept_LSD.to(new_BTD.dtype).expand(len(new_BTD), -1, -1), new_BTD], 1)
        return all_BAD.gather(1, self.order_BA[..., None].expand_as(all_BAD)) * self.is_filled_BA[..., None]

    def state(self, places: int) -> FastState:
        """The newest tokens as the state after the pass, in `places` places."""
        signed_BA = (self.token_BA + 1) * torch.where(self.begins_BA, -1, 1)
        tokens_BA = torch.where(self.is_filled_BA, signed_BA, 0).float()
        new_B = self.is_filled_BA.gather(1, self.place_BT).sum(1).float()
        return {TOKENS: newest(tokens_BA, places), NEW: new_B, SEGMENT: self.last_B}


def _segment_before(batch: Batch, state: FastState) -> Tensor:
    """The document [B] in which an earlier piece stopped; none at the start of a batch."""
    return state.get(SEGMENT, torch.full_like(batch.segment_BT[:, 0], NOTHING_READ))


def newest(x_BA: Tensor, places: int) -> Tensor:
    """The last `places` places of [B, A] or [B, A, D], with empty ones before them."""
    missing = max(places - x_BA.shape[1], 0)
    padding = (missing, 0) if x_BA.dim() == 2 else (0, 0, missing, 0)
    return F.pad(x_BA[:, x_BA.shape[1] - places + missing :], padding)


def one_lane(state: FastState) -> FastState:
    """What all lanes read, as one lane: the state before them, then the newest tokens of each.

    Every lane gets an equal share of the places at most. Lanes differ in their new tokens alone.
    """
    tokens_LS = state[TOKENS]
    lanes, places = tokens_LS.shape
    new_L1 = state.get(NEW, tokens_LS.new_zeros(lanes))[:, None]
    age_S = torch.arange(places - 1, -1, -1, device=tokens_LS.device)
    is_shared_LS = (new_L1 > 0) & (age_S < new_L1.clamp(max=places // lanes))
    # A share that begins inside a document no longer follows the token before it.
    first_LS = is_shared_LS & ~F.pad(is_shared_LS, (1, -1))
    tokens_LS = torch.where(first_LS, -tokens_LS.abs(), tokens_LS)
    is_old_1S = (age_S >= new_L1)[:1] & (tokens_LS[:1] != 0)
    pool_1P = torch.cat([is_old_1S, is_shared_LS.flatten()[None]], 1)
    order_1S = pool_1P.to(torch.uint8).argsort(dim=1, stable=True)[:, -places:]
    together: FastState = {}
    for name, x in (state | {TOKENS: tokens_LS}).items():
        if not name.startswith(OPEN):
            masked_1P = _where(pool_1P, torch.cat([x[:1], x.flatten(0, 1)[None]], 1))
            together[name] = masked_1P[:, order_1S[0]].detach()
    return together


def _where(is_taken_1P: Tensor, x_1P: Tensor) -> Tensor:
    """`x_1P`, [1, P] or [1, P, D], with zeros in the places that are not taken."""
    return x_1P * (is_taken_1P if x_1P.dim() == 2 else is_taken_1P[..., None])
