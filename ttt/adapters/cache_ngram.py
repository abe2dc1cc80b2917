"""What followed the same context before: n-grams of the window, from long contexts to none.

    p_n(w) = (c_n(w) + e_n t_n p_n-1(w)) / (N_n + e_n t_n)          p_-1: the model

c_n(w): how often w followed the last n tokens; N_n: their sum; t_n: how many different w did.
Interpolated Witten-Bell (1991) with a learned factor e_n for each order, where 1 is theirs.
Shapes: B batch (lanes), A places of a window, R queries, K values in sight, N orders,
L = N + 1 levels.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.cache_window import Find, Window

# Above every token id: two numbers become one.
BASE = 1 << 32


class Ngrams(nn.Module):
    """How much each earlier token says about the next one, by the context that they share."""

    def __init__(self, *, order: int, escape: float, learned: bool) -> None:
        super().__init__()
        # On a log scale: factors stay positive.
        self.log_escape_N = nn.Parameter(torch.full((order + 1,), math.log(escape)), requires_grad=learned)

    def open(self, window: Window, hidden_BAD: Tensor | None) -> Find:
        return partial(self._find, Grams.of(window, order=len(self.log_escape_N) - 1))

    def _find(self, grams: Grams, place_BR: Tensor, is_seen_BRK: Tensor, span: slice) -> tuple[Tensor, Tensor]:
        level_BRK, count_BRN, kinds_BRN = grams.count(place_BR, is_seen_BRK, span)
        escape_N = self.log_escape_N.exp()
        gate_BRN = count_BRN / (count_BRN + escape_N * kinds_BRN).clamp(min=1)
        # What passes every order from the longest down to n.
        passed_BRN = (1 - gate_BRN).flip(-1).cumprod(-1).flip(-1)
        each_BRN = gate_BRN * F.pad(passed_BRN[..., 1:], (0, 1), value=1.0) / count_BRN.clamp(min=1)
        # A value that shares n tokens of context has a part in all orders from 0 to n.
        weight_BRL = F.pad(each_BRN.cumsum(-1), (1, 0))
        return weight_BRL.gather(-1, level_BRK), passed_BRN[..., 0]

    def numbers(self) -> dict[str, float]:
        return {f"escape_{n}": x for n, x in enumerate(self.log_escape_N.detach().exp().tolist())}


class Grams:
    """The contexts of a window as numbers: two places share n tokens if their n-th numbers agree.

    `contexts`: by n >= 1, the class of the last n tokens of each place, [B, A]. `again`: by n, the
    next place at which a value follows the same n tokens again.
    """

    def __init__(self, contexts: list[Tensor], again: list[Tensor]) -> None:
        self._contexts, self._again = contexts, again

    @classmethod
    @torch.no_grad()
    def of(cls, window: Window, *, order: int) -> Grams:
        place_A = torch.arange(window.token_BA.shape[1], device=window.token_BA.device)
        # Numbers of their own, which equal no other of their lane.
        unlike_A = -1 - place_A
        depth_BA = torch.where(window.is_filled_BA, place_A - window.start_BA + 1, 0)
        contexts, again = [], []
        shorter_BA = torch.zeros_like(window.token_BA)
        for n in range(order + 1):
            # The class of n tokens and the one after them names that of n + 1 tokens.
            gram_BA = F.pad(shorter_BA, (1, -1)) * BASE + window.token_BA
            gram_BA = torch.where(depth_BA > n, gram_BA, unlike_A).unique(return_inverse=True)[1]
            again.append(_next_alike(torch.where(window.is_value_BA, gram_BA, unlike_A)))
            contexts.append(gram_BA)
            shorter_BA = gram_BA
        return cls(contexts[:order], again)

    @torch.no_grad()
    def count(self, place_BR: Tensor, is_seen_BRK: Tensor, span: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Levels [B, R, K]: in how many orders a value counts; and N_n and t_n, [B, R, N]."""
        level_BRK, is_match_BRK = is_seen_BRK.long(), is_seen_BRK
        counts, kinds = [], []
        for n, again_BA in enumerate(self._again):
            if n > 0:
                context_BA = self._contexts[n - 1]
                # A value's context ends one place before it.
                earlier_BK = F.pad(context_BA, (1, -1), value=-1)[:, span]
                is_match_BRK = is_match_BRK & (earlier_BK[:, None] == context_BA.gather(1, place_BR)[..., None])
                level_BRK += is_match_BRK
            counts.append(is_match_BRK.sum(-1))
            # Of equal values the last one stands for all.
            kinds.append((is_match_BRK & (again_BA[:, None, span] > place_BR[..., None])).sum(-1))
        return level_BRK, torch.stack(counts, -1), torch.stack(kinds, -1)


def _next_alike(class_BA: Tensor) -> Tensor:
    """The next place with the same number in its lane; where there is none, one after the last."""
    length = class_BA.shape[1]
    sorted_BA, place_BA = class_BA.sort(dim=1, stable=True)
    is_same_BA = F.pad(sorted_BA[:, 1:] == sorted_BA[:, :-1], (0, 1))
    following_BA = torch.where(is_same_BA, F.pad(place_BA[:, 1:], (0, 1)), length)
    return torch.empty_like(place_BA).scatter(1, place_BA, following_BA)
