"""`nano`: a small decoder-only transformer with the parts of today's language models.

RMSNorm, RoPE, full or sliding-window causal attention, SwiGLU, tied embeddings. Module names follow
Hugging Face's Llama (`layers.N.mlp.down_proj`), so an adapter that fits one fits the other as well.
Shapes: B batch, T time, D model width, F feed-forward width, H heads, K head width, V vocabulary,
A keys: of the T tokens, and of some before them.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from ttt.kernels.attention.window import attend_window
from ttt.models.cache import Cache

# cos and sin of the angles of every position, in fp32.
Rope = tuple[Tensor, Tensor]
Size = Annotated[int, Ge(1)]


class Nano(nn.Module):
    """A decoder: tokens in, next-token logits out.

    Arguments are explained in conf/model/nano.yaml.
    """

    def __init__(
        self,
        *,
        name: str,
        vocab_size: int,
        seq_len: int,
        layers: Annotated[int, Ge(1), Le(10_000)],
        width: Size,
        heads: Size,
        mlp_width: Size,
        window: Size | None,
        rope_base: Annotated[float, Gt(0)],
    ) -> None:
        super().__init__()
        # RoPE turns pairs of numbers, so the width of a head must be even.
        if width % (2 * heads):
            raise ValueError(f"model.width={width}: must be a multiple of 2 * model.heads = {2 * heads}")
        if window is not None and window > seq_len:
            raise ValueError(
                f"model.window={window}: must lie between 1 and task.seq_len={seq_len} (null: full attention)"
            )
        self.name = name
        self.embed_tokens = nn.Embedding(vocab_size, width)
        self.layers = nn.ModuleList(
            Block(width, name=str(i), heads=heads, mlp_width=mlp_width, window=window) for i in range(layers)
        )
        self.norm = nn.RMSNorm(width)
        self.window = window
        self.head_width = width // heads
        self.rope_base = rope_base
        self._init_weights(layers)

    def _init_weights(self, layers: int) -> None:
        """Initialise as GPT-2 does: normal(0.02), less for outputs into the residual stream."""
        # 2 * layers branches add up in the residual stream; the root keeps its variance.
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                into_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if into_residual else 0.02)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        segment_BT: Tensor | None = None,
        cache: Cache | None = None,
        prefix_BPD: Tensor | None = None,
    ) -> Tensor:
        """Return logits [B, T, V]; with `segment_BT`, no token sees another document of its row.

        With `cache`, the rows continue where the cache stopped. `prefix_BPD` (needs a cache):
        vectors before the rows that every one of their tokens sees.
        """
        x_BTD = self.embed_tokens(tokens_BT)
        if prefix_BPD is not None:
            x_BTD = torch.cat([prefix_BPD.to(x_BTD.dtype), x_BTD], 1)
        if cache is None:
            # Documents of a row share one count: RoPE depends on distances only.
            position_BT = torch.arange(tokens_BT.shape[1], device=x_BTD.device)
        else:
            # A cache knows padding by its segment; without segments all tokens are one document.
            segment_BT = torch.zeros_like(tokens_BT) if segment_BT is None else segment_BT
            cache.open(segment_BT, window=self.window, prefix=x_BTD.shape[1] - tokens_BT.shape[1])
            position_BT = cache.position_BQ[:, None]
        # Once for all layers: the angles depend on positions alone.
        rope = rope_tables(position_BT, width=self.head_width, base=self.rope_base)
        for layer in self.layers:
            x_BTD = layer(x_BTD, rope=rope, segment_BT=segment_BT, cache=cache)
        # Tied: the embedding is the output layer too. Prefix vectors get no logits.
        return F.linear(self.norm(x_BTD[:, -tokens_BT.shape[1] :]), self.embed_tokens.weight)


class Block(nn.Module):
    """x <- x + attention(norm(x)); x <- x + MLP(norm(x))."""

    def __init__(self, width: int, *, name: str, heads: int, mlp_width: int, window: int | None) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(width)
        self.self_attn = Attention(width, name=name, heads=heads, window=window)
        self.post_attention_layernorm = nn.RMSNorm(width)
        self.mlp = GatedMLP(width, mlp_width=mlp_width)

    def forward(self, x_BTD: Tensor, *, rope: Rope, segment_BT: Tensor | None, cache: Cache | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rope=rope, segment_BT=segment_BT, cache=cache)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class GatedMLP(nn.Module):
    """SwiGLU: down(silu(gate x) * (up x)) (Shazeer, arXiv 2002.05202)."""

    def __init__(self, width: int, *, mlp_width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, mlp_width, bias=False)
        self.up_proj = nn.Linear(width, mlp_width, bias=False)
        self.down_proj = nn.Linear(mlp_width, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Attention(nn.Module):
    """Multi-head causal attention with rotary positions; `name` is its key in a cache."""

    def __init__(self, width: int, *, name: str, heads: int, window: int | None) -> None:
        super().__init__()
        self.name = name
        self.heads = heads
        self.window = window
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: Tensor, *, rope: Rope, segment_BT: Tensor | None, cache: Cache | None) -> Tensor:
        qkv_BTHK = self.qkv_proj(x_BTD).unflatten(-1, (3 * self.heads, -1))
        # Queries and keys are rotated together: one call less in each layer.
        qk_BHTK, v_BHTK = qkv_BTHK.transpose(1, 2).split([2 * self.heads, self.heads], dim=1)
        q_BHTK, k_BHTK = rotate(qk_BHTK, rope).chunk(2, dim=1)
        if cache is None:
            out_BHTK = attend(q_BHTK, k_BHTK, v_BHTK, window=self.window, segment_BA=segment_BT)
        else:
            out_BHTK = cache.attend(self.name, q_BHTK, k_BHTK, v_BHTK)
        return self.o_proj(out_BHTK.transpose(1, 2).flatten(2))


def attend(q_BHTK: Tensor, k_BHAK: Tensor, v_BHAK: Tensor, *, window: int | None, segment_BA: Tensor | None) -> Tensor:
    """Attend causally within a document; with a window, token t sees tokens t - window + 1 .. t.

    Queries are those of the last T tokens; with a window, fewer than that stand before them.
    """
    back = k_BHAK.shape[2] - q_BHTK.shape[2]
    if window is not None and window < k_BHAK.shape[2]:
        return attend_window(q_BHTK, k_BHAK, v_BHAK, window=window, segment_BA=segment_BA)
    if segment_BA is None:
        assert back == 0, "torch counts its causal mask from the first key"
        # A flag in place of a mask lets torch choose a flash kernel.
        return F.scaled_dot_product_attention(q_BHTK, k_BHAK, v_BHAK, is_causal=True)
    same_BTA = segment_BA[:, back:, None] == segment_BA[:, None, :]
    return F.scaled_dot_product_attention(q_BHTK, k_BHAK, v_BHAK, attn_mask=same_BTA.tril(back)[:, None])


def rope_tables(position: Tensor, *, width: int, base: float) -> Rope:
    """Return cos and sin of position * base^(-2i/width), with one more dimension than `position`.

    Source: RoFormer (arXiv 2104.09864).
    """
    # Computed for each pass, since positions have no upper bound, and in fp32 whatever the model's
    # precision is: bf16 cannot represent integers above 256.
    rates_K = base ** (-torch.arange(0, width, 2, dtype=torch.float32, device=position.device) / width)
    angle = position[..., None] * rates_K
    return angle.cos(), angle.sin()


def rotate(x_BHTK: Tensor, rope: Rope) -> Tensor:
    """Turn the pairs (x_i, x_{i + K/2}) of queries or keys by the angles of their positions."""
    cos_TK, sin_TK = (table.to(x_BHTK.dtype) for table in rope)
    # Halves and not neighbours form the pairs, as in the Llama of Hugging Face.
    left, right = x_BHTK.chunk(2, dim=-1)
    return torch.cat([left * cos_TK - right * sin_TK, right * cos_TK + left * sin_TK], dim=-1)
