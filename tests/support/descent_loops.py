"""Gradient steps at reading time in plain loops over chunks, with torch.func.

Shapes: B lanes, T time (of one document), C tokens of a chunk, D model width, F feed-forward width,
H heads, K head width, P prompt vectors, R rank, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from reference_loops import CHUNK, Named, documents, plain_of, rms
from tiny_adapters import LENGTH
from torch import Tensor
from torch.func import functional_call

from ttt.adapters.base import FastState
from ttt.learner import Learner
from ttt.models.cache import Cache
from ttt.models.nano import Nano
from ttt.stream import Batch

# What was read before: keys and values, prompts and chunks, or nothing.
Past = Cache | list[tuple[Tensor, Tensor]] | None
# (tokens_C, fast weights, past) -> the logits of one chunk [C, V]; the past grows by the chunk.
Logits = Callable[[Tensor, Named, Past], Tensor]


@dataclass
class Inner:
    """How steps are taken.

    `taken` records the gradients of the steps; with `replay`, it holds those to take instead.
    """

    step: Tensor
    clip: float | None
    decay: float
    second_order: bool = False
    replay: bool = False
    taken: list[Named] = field(default_factory=list)

    def gradient(self, loss: Callable[[Named], Tensor], fast: Named) -> Named:
        if self.replay:
            return self.taken.pop(0)
        grad = torch.func.grad(loss)(fast)
        self.taken.append({name: g.detach() for name, g in grad.items()})
        return grad if self.second_order else self.taken[-1]

    def after(self, grad: Named, fast: Named) -> Named:
        norm = sum(g.square().sum() for g in grad.values()) ** 0.5
        size = self.step if self.clip is None or norm <= self.clip else self.step * self.clip / norm
        return {name: self.decay * x - size * grad[name] for name, x in fast.items()}


def sgd_logits(plain: Nano, chunk_C: Tensor, fast: Named, past: Past) -> Tensor:
    """Fast weights have the names of the matrices to which they are added."""
    weights = {name: plain.get_parameter(name) + x for name, x in fast.items()}
    return functional_call(plain, weights, (chunk_C[None],), {"cache": past})[0]


def lora_logits(plain: Nano, starts: Named, scale: float, chunk_C: Tensor, fast: Named, past: Past) -> Tensor:
    """W0 + scale B A, where `starts` holds the slow part of each A."""
    weights = {}
    for name, a_RF in starts.items():
        down = name.replace("fast.a_RI", "weight")
        mlp = name.removesuffix(".down_proj.fast.a_RI")
        weights[down] = plain.get_parameter(down) + scale * fast[f"{mlp}.b"] @ (a_RF + fast[f"{mlp}.a"])
    return functional_call(plain, weights, (chunk_C[None],), {"cache": past})[0]


def prompt_logits(plain: Nano, start_PD: Tensor, chunk_C: Tensor, fast: Named, past: Past) -> Tensor:
    """One row, [P; chunk; P'; chunk'; ...]: tokens see tokens and the prompt of their own chunk.

    A prompt sees itself alone.
    """
    past.append((start_PD + fast["prompt"], chunk_C))
    x, place, owner, prompt, count = [], [], [], [], 0
    for n, (prompt_PD, tokens_C) in enumerate(past):
        x += [prompt_PD, plain.embed_tokens.weight[tokens_C]]
        place += range(count - len(prompt_PD), count + len(tokens_C))
        owner += [n] * (len(prompt_PD) + len(tokens_C))
        prompt += [True] * len(prompt_PD) + [False] * len(tokens_C)
        count += len(tokens_C)
    place_T, owner_T, prompt_T = torch.tensor(place), torch.tensor(owner), torch.tensor(prompt)
    tokens_TT = ~prompt_T[:, None] & ~prompt_T
    near_TT = place_T[:, None] - place_T < (plain.window or LENGTH)
    seen_TT = torch.where(tokens_TT, near_TT, owner_T[:, None] == owner_T).tril()
    return transformer(plain, torch.cat(x), place_T, seen_TT)[-len(chunk_C) :]


def transformer(plain: Nano, x_TD: Tensor, place_T: Tensor, seen_TT: Tensor) -> Tensor:
    """The model written out for one row of vectors, with their positions and who sees whom."""
    width = plain.head_width
    angle_TK = place_T[:, None] * plain.rope_base ** (-torch.arange(0, width, 2) / width)
    turn_TK = torch.polar(torch.ones_like(angle_TK), angle_TK)
    for block in plain.layers:
        n_TD = rms(x_TD) * block.input_layernorm.weight
        qkv_THK = (n_TD @ block.self_attn.qkv_proj.weight.T).unflatten(1, (-1, width))
        q_HTK, k_HTK, v_HTK = qkv_THK.movedim(1, 0).chunk(3)
        q_HTK, k_HTK = (torch.complex(*x.chunk(2, dim=-1)) * turn_TK for x in (q_HTK, k_HTK))
        score_HTT = (q_HTK @ k_HTK.mH).real / width**0.5
        share_HTT = score_HTT.masked_fill(~seen_TT, float("-inf")).softmax(-1)
        x_TD = x_TD + (share_HTT @ v_HTK).movedim(0, 1).flatten(1) @ block.self_attn.o_proj.weight.T
        n_TD = rms(x_TD) * block.post_attention_layernorm.weight
        gated_TF = F.silu(n_TD @ block.mlp.gate_proj.weight.T) * (n_TD @ block.mlp.up_proj.weight.T)
        x_TD = x_TD + gated_TF @ block.mlp.down_proj.weight.T
    return (rms(x_TD) * plain.norm.weight) @ plain.embed_tokens.weight.T


@dataclass(frozen=True)
class Reference:
    """A plain model with the learner's slow weights; `brought`: those that the adapter added."""

    plain: Nano
    brought: Named
    logits: Logits
    past: Callable[[], Past]
    reset: str

    def document(self, tokens_T: Tensor, fast: Named, inner: Inner) -> tuple[Tensor, Named]:
        """Read a document chunk after chunk, with a step after each full chunk."""
        past, reads = self.past(), []
        for chunk_C in tokens_T.split(CHUNK):
            before = None if past is None else past.copy()
            reads.append(self.logits(chunk_C, fast, past))
            if len(chunk_C) == CHUNK:
                loss = partial(self.loss, chunk_C, before)
                fast = inner.after(inner.gradient(loss, fast), fast)
        return torch.cat(reads), fast

    def loss(self, chunk_C: Tensor, past: Past, fast: Named) -> Tensor:
        return F.cross_entropy(self.logits(chunk_C, fast, past)[:-1], chunk_C[1:])

    def read(self, batch: Batch, initial: FastState, inner: Inner) -> tuple[Tensor, list[Named]]:
        """Logits of all tokens without padding, lane after lane, and each lane's fast weights."""
        blank, reads, lanes = {name: x[0].double() for name, x in initial.items()}, [], []
        for tokens_T, segment_T in zip(batch.tokens_BT, batch.segment_BT, strict=True):
            fast = blank
            for where_T in documents(segment_T):
                read_TV, fast = self.document(tokens_T[where_T], fast if self.reset == "task" else blank, inner)
                reads.append(read_TV)
            lanes.append(fast)
        return torch.cat(reads), lanes


def reference_of(learner: Learner, options: dict[str, Any]) -> Reference:
    """The reference of a learner that was made with these options."""
    plain, reset = plain_of(learner), options.get("reset", "sequence")
    brought = {
        name: x.detach().clone().requires_grad_()
        for name, x in learner.model.named_parameters()
        if name.endswith(("prompt", "fast.a_RI"))
    }
    if "prompt" in brought:
        return Reference(plain, brought, partial(prompt_logits, plain, brought["prompt"]), list, reset)
    logits = partial(lora_logits, plain, brought, options.get("scale", 1.0)) if brought else partial(sgd_logits, plain)
    # Where a token sees only itself, no keys and values are kept.
    return Reference(plain, brought, logits, (lambda: None) if plain.window == 1 else Cache, reset)


def inner_of(learner: Learner, options: dict[str, Any]) -> Inner:
    """The steps of a learner that was made with these options, with a step size of its own."""
    log_step = learner.model.descent.log_step.detach().clone().requires_grad_()
    second_order = options.get("second_order", False)
    return Inner(log_step.exp(), options.get("clip"), options.get("decay", 0.9), second_order=second_order)
