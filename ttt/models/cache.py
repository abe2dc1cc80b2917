"""The part of a sequence that later tokens may still attend to, so that it can be read in pieces.

Shapes: B batch (lanes), T new tokens, P prefix vectors, S kept tokens, A = S + P + T all keys,
H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ttt.kernels.attention.window import attend_window
from ttt.models.alike import AlikeLanes

PADDING = -1


class Cache:
    """Keys, values, positions and documents of the tokens inside the window, lane by lane.

    `extra`: tokens kept beyond what the window needs, for a reader that goes back. `exact`: decode
    with the operators of a pass that learns, to the bit; else with the fastest. `more`: how many
    tokens will be decoded, where that is known. Tensors that were handed out never change, so a
    `copy` stays as it is while the original reads on.
    """

    def __init__(
        self, *, extra: int = 0, exact: bool = True, more: int | None = None, tensors: dict[str, Tensor] | None = None
    ) -> None:
        self.extra, self._more = extra, more
        # Tokens between the prefix and the next row, per lane: the part of a chunk already read.
        self.since_prefix_B: Tensor | None = None
        self.position_BQ: Tensor
        self._exact = exact
        self._tensors = {} if tensors is None else dict(tensors)
        # While all lanes read one token after another, this is ahead of the tensors.
        self._alike: AlikeLanes | None = None
        self._window: int | None = None
        self._is_plain = False
        self._mask_B1QA: Tensor | None = None
        # The documents of all keys, in a pass that is read in blocks.
        self._blocks_BA: Tensor | None = None
        self._kept_BS: Tensor | None
        self._prefix = 0
        self._mask_of: Callable[..., Tensor]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that is kept, by name."""
        return self._tensors if self._alike is None else self._alike.tensors()

    @tensors.setter
    def tensors(self, tensors: dict[str, Tensor]) -> None:
        """A model with a state of its own keeps that here, in place of keys and values."""
        self._tensors, self._alike = dict(tensors), None

    @property
    def is_empty(self) -> bool:
        """Has nothing been read yet?"""
        return not self._tensors

    def copy(self) -> Cache:
        return self._with(self.tensors)

    def _with(self, tensors: dict[str, Tensor]) -> Cache:
        return Cache(extra=self.extra, exact=self._exact, more=self._more, tensors=tensors)

    def open(self, segment_BT: Tensor, *, window: int | None, prefix: int = 0) -> None:
        """Prepare a pass: positions, the mask, and which tokens to keep.

        Padding (segment < 0) takes no position.

        `prefix` vectors stand before the row. They see one another causally, every token of the row
        sees them at any distance, and they are not kept.
        """
        self._prefix, self._window, self._is_plain = prefix, window, False
        self._mask_B1QA = self._blocks_BA = None
        if self._decodes(segment_BT):
            assert self._alike is not None
            self.position_BQ = self._alike.open(window)
            return
        self._tensors, self._alike = self.tensors, None
        old_BS, doc_BS = self._old("position", segment_BT), self._old("segment", segment_BT)
        real_BT = segment_BT >= 0
        start_B1 = old_BS.max(1, keepdim=True).values + 1 if old_BS.shape[1] else torch.zeros_like(segment_BT[:, :1])
        new_BT = torch.where(real_BT, start_B1 + real_BT.cumsum(1) - 1, PADDING)
        since_B = torch.zeros_like(segment_BT[:, 0]) if self.since_prefix_B is None else self.since_prefix_B
        # The prefix keeps its place before the whole chunk, also where the chunk is read in pieces;
        # its positions may be negative, which RoPE does not mind.
        before_BP = start_B1 - since_B[:, None] - prefix + torch.arange(prefix, device=segment_BT.device)
        self.position_BQ = torch.cat([before_BP, new_BT], 1)
        position_BA = torch.cat([old_BS, new_BT], 1)
        segment_BA = torch.cat([doc_BS, segment_BT], 1)
        self._mask_of = partial(self._mask, position_BA, segment_BA, new_BT, segment_BT, prefix=prefix)
        # A mask of all queries by all keys grows with T * T.
        is_long = window is not None and segment_BT.shape[1] > 2 * window and not prefix
        if is_long and bool(real_BT.all()) and bool((old_BS >= 0).all()):
            self._blocks_BA = segment_BA
        is_first = not old_BS.shape[1] and not prefix and (window is None or window >= segment_BT.shape[1])
        if is_first and not self._exact and segment_BT.numel():
            # For one document torch needs no mask, and may choose a fused kernel.
            self._is_plain = bool((segment_BT == segment_BT[0, 0]).all()) and bool(real_BT[0, 0])
        keep = position_BA.shape[1] if window is None else min(window - 1 + self.extra, position_BA.shape[1])
        # Keep the newest real tokens of each lane, in order: lanes may have read different numbers.
        # Where all fit they stay in place, which spares copies: the mask goes by their positions.
        keeps_all = keep == position_BA.shape[1]
        self._kept_BS = None if keeps_all else position_BA.argsort(dim=1, stable=True)[:, position_BA.shape[1] - keep :]
        self._tensors["position"] = self._keep(position_BA)
        self._tensors["segment"] = self._keep(segment_BA)

    def _decodes(self, segment_BT: Tensor) -> bool:
        """Is this a token in every lane that goes on with the same stretch of a document?"""
        # Gradients need tensors that nothing is written into afterwards.
        if segment_BT.shape[1] != 1 or self._prefix or self.extra or torch.is_grad_enabled():
            return False
        if self._alike is None:
            self._alike = AlikeLanes.of(self._tensors, more=self._more)
        return self._alike is not None and self._alike.goes_on(segment_BT)

    def mask(self, window: int | None) -> Tensor:
        """Return [B, 1, P + T, A] of bool: may a query of this pass see a key, through this window?

        The window is at most the one that the pass was opened with; B may be 1.
        """
        return self._mask_of(window=window)[:, None] if self._alike is None else self._alike.mask(window)

    def pick(self, lane_B: Tensor) -> Cache:
        """Return a cache whose lane i is lane `lane_B[i]` of this one."""
        picked = {name: x[lane_B] for name, x in self.tensors.items()}
        return self._with(picked)

    def before(self, back_B: Tensor) -> Cache:
        """Return the cache as it was `back_B` tokens ago in each lane (at most `extra`)."""
        cache = self.copy()
        if "position" in cache.tensors:
            position_BS = cache.tensors["position"]
            gone_BS = position_BS > position_BS.max(1, keepdim=True).values - back_B[:, None]
            # Marking tokens as padding is enough: the mask hides their keys and values.
            cache.tensors["position"] = position_BS.masked_fill(gone_BS, PADDING)
            cache.tensors["segment"] = cache.tensors["segment"].masked_fill(gone_BS, PADDING)
        return cache

    def detach(self) -> None:
        """Cut the kept tokens off from the graph."""
        self._tensors, self._alike = {name: x.detach() for name, x in self.tensors.items()}, None

    def _old(self, name: str, like_BT: Tensor) -> Tensor:
        # A slice without tokens has the right device and type.
        return self._tensors.get(name, like_BT[:, :0])

    def _mask(
        self, position_BA: Tensor, segment_BA: Tensor, new_BT: Tensor, segment_BT: Tensor, *, window: int | None,
        prefix: int,
    ) -> Tensor:  # fmt: skip
        """Return [B, P + T, P + S + T]: the keys (prefix, kept, new) that each query may see."""
        distance_BTA = new_BT[:, :, None] - position_BA[:, None, :]
        seen_BTA = (distance_BTA >= 0) & (segment_BT[:, :, None] == segment_BA[:, None, :])
        seen_BTA &= (segment_BA >= 0)[:, None, :]
        if window is not None:
            seen_BTA &= distance_BTA < window
        # Padding sees itself: a softmax over nothing would be NaN. Nobody reads what it gives.
        length = segment_BT.shape[1]
        seen_BTA[:, :, -length:] |= torch.eye(length, dtype=torch.bool, device=segment_BT.device)
        if not prefix:
            return seen_BTA
        causal_PP = torch.ones(prefix, prefix, dtype=torch.bool, device=segment_BT.device).tril()
        top_BPA = F.pad(causal_PP, (0, position_BA.shape[1])).expand(len(segment_BT), -1, -1)
        return torch.cat([top_BPA, F.pad(seen_BTA, (prefix, 0), value=True)], 1)

    def attend(self, name: str, q_BHQK: Tensor, k_BHQK: Tensor, v_BHQK: Tensor) -> Tensor:
        """Attend from the prefix and the new tokens to all that they may see."""
        k_BHAK, v_BHAK = self.extend(name, k_BHQK, v_BHQK)
        if self._alike is not None and not self._exact:
            # A stretch is seen as a whole: without a mask torch may choose a fused kernel.
            return F.scaled_dot_product_attention(q_BHQK, k_BHAK, v_BHAK)
        if self._blocks_BA is not None and self._window is not None:
            # Tokens that are kept beyond the window are none of a block.
            first = max(k_BHAK.shape[2] - q_BHQK.shape[2] - self._window + 1, 0)
            k_BHAK, v_BHAK, seen_BA = k_BHAK[:, :, first:], v_BHAK[:, :, first:], self._blocks_BA[:, first:]
            return attend_window(q_BHQK, k_BHAK, v_BHAK, window=self._window, segment_BA=seen_BA)
        if self._is_plain:
            return F.scaled_dot_product_attention(q_BHQK, k_BHAK, v_BHAK, is_causal=True)
        if self._mask_B1QA is None:
            # Once for all layers.
            self._mask_B1QA = self.mask(self._window)
        # Learning through a cached pass needs second derivatives, which fast kernels lack.
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(q_BHQK, k_BHAK, v_BHAK, attn_mask=self._mask_B1QA)

    def extend(self, name: str, k_BHQK: Tensor, v_BHQK: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of the prefix, the kept and the new tokens, in this order."""
        return self._extend(f"{name}.k", k_BHQK), self._extend(f"{name}.v", v_BHQK)

    def _extend(self, name: str, x_BHQK: Tensor) -> Tensor:
        if self._alike is not None:
            return self._alike.extend(name, x_BHQK)
        prefix_BHPK, new_BHTK = x_BHQK[:, :, : self._prefix], x_BHQK[:, :, self._prefix :]
        old_BHSK = self._tensors.get(name)
        # The prefix is left out: every pass brings its own.
        x_BHAK = new_BHTK if old_BHSK is None else torch.cat([old_BHSK, new_BHTK], 2)
        self._tensors[name] = self._keep(x_BHAK)
        return torch.cat([prefix_BHPK, x_BHAK], 2) if self._prefix else x_BHAK

    def _keep(self, x: Tensor) -> Tensor:
        """Select the kept tokens from keys or values [B, H, A, K] or from positions [B, A]."""
        if self._kept_BS is None:
            return x
        if x.ndim == 2:
            return x.gather(1, self._kept_BS)
        return x.gather(2, self._kept_BS[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
