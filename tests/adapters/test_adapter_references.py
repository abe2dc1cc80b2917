"""Every adapter against its own equations: plain loops over tokens that call none of our kernels.

A reference reads one document of one row and hands on what it wrote. The adapters read whole batches, plain
ones and packed ones with padding: lanes, heads, chunks that start anew and lifetimes are checked with it.
Shapes: B lanes, T time (of one document), C tokens of a chunk, D model width, F feed-forward width, H heads,
K head width, P prompt vectors, R rank, V vocabulary, X any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_adapters import LENGTH, batch_of, make, tokens
from torch import Tensor, nn
from torch.func import functional_call

from ttt.adapters.base import FastState
from ttt.learner import Learner
from ttt.models.cache import Cache
from ttt.models.nano import Nano
from ttt.stream import Batch

CHUNK, STEP = 4, 0.5
# One document a row, also more than kernels take in one piece; documents of 24, 9 and 11 tokens, with padding
# before, inside and behind them.
PLAIN, LONG = (torch.zeros(2, length, dtype=torch.long) for length in (LENGTH - 2, 38))
PACKED = torch.tensor([[0] * LENGTH, [-1] * 2 + [0] * 5 + [-1] + [0] * 4 + [1] * 11 + [-1]])
LAYOUTS = [(LONG, "sequence"), (PACKED, "sequence"), (PACKED, "task")]
layouts = pytest.mark.parametrize(("segment_BT", "reset"), LAYOUTS, ids=["long", "packed", "packed-carried"])

Named = dict[str, Tensor]
close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6, check_dtype=False)


class StandIn(nn.Module):
    """In the model's place: one part of it, which gets `x_BTD` whatever the tokens are."""

    def __init__(self, part: nn.Module, x_BTD: Tensor) -> None:
        super().__init__()
        self.part, self.x_BTD = part, x_BTD

    def forward(self, tokens_BT: Tensor, *, segment_BT: Tensor, cache: Cache | None) -> Tensor:
        return self.part(self.x_BTD)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shake(module: nn.Module, *, by: float = 0.3) -> None:
    """Every parameter away from its start: gates then differ from token to token, norms from 1."""
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.add_(by * normal(seed, *parameter.shape))


def packed(seed: int, segment_BT: Tensor) -> Batch:
    return batch_of(tokens(seed, *segment_BT.shape), segment_BT)


def documents(segment_T: Tensor) -> Iterator[Tensor]:
    """The places of each document's tokens."""
    for document in range(int(segment_T.max()) + 1):
        yield (segment_T == document).nonzero()[:, 0]


def chunks(length: int) -> Iterator[range]:
    for start in range(0, length, CHUNK):
        yield range(start, min(start + CHUNK, length))


def unit(x_K: Tensor) -> Tensor:
    return x_K / x_K.norm()


def rms(x_TD: Tensor) -> Tensor:
    return x_TD / (x_TD.square().mean(-1, keepdim=True) + torch.finfo(x_TD.dtype).eps).sqrt()


def affine(linear: nn.Linear, x_TD: Tensor, head: int) -> Tensor:
    return x_TD @ linear.weight[head] + linear.bias[head]


def same_with_gradients(got_XD: Tensor, want_XD: Tensor, module: nn.Module, *, rtol: float, atol: float) -> None:
    """What was read, and the gradient of every parameter from a random one behind it."""
    close(got_XD, want_XD, rtol=rtol, atol=atol)
    parameters, behind_XD = dict(module.named_parameters()), normal(9, *got_XD.shape)
    grads = [torch.autograd.grad((x_XD * behind_XD).sum(), list(parameters.values())) for x_XD in (got_XD, want_XD)]
    for name, got, want in zip(parameters, *grads, strict=True):
        close(
            got, want, rtol=rtol, atol=atol * float(want.abs().max() + 1), msg=lambda text, name=name: f"{name}: {text}"
        )


# Memories beside attention: what one head reads in one document, and what it leaves.
Loop = Callable[[nn.Module, int, Tensor, Tensor, Tensor, Tensor, Named], tuple[list[Tensor], Named]]


def delta_loop(
    rule: nn.Module, head: int, x_TD: Tensor, q_TK: Tensor, k_TK: Tensor, v_TK: Tensor, memory: Named
) -> tuple[list[Tensor], Named]:
    s_KK, reads = memory["memory"], []
    beta_T = affine(rule.beta_proj, x_TD, head).sigmoid()
    for t in range(len(x_TD)):
        k_K, gate = unit(k_TK[t]), 1.0
        if rule.gate_proj is not None:
            gate = 1 / (1 + affine(rule.gate_proj, x_TD[t], head).exp())
        s_KK = gate * s_KK
        s_KK = s_KK + beta_T[t] * torch.outer(v_TK[t] - s_KK @ k_K, k_K)
        reads.append(s_KK @ unit(q_TK[t]))
    return reads, {"memory": s_KK}


def titans_loop(
    rule: nn.Module, head: int, x_TD: Tensor, q_TK: Tensor, k_TK: Tensor, v_TK: Tensor, memory: Named
) -> tuple[list[Tensor], Named]:
    s_KK, m_KK, reads = memory["memory"], memory["momentum"], []
    start_KK = s_KK
    theta_T, mu_T, alpha_T = (affine(rule.rates[x], x_TD, head).sigmoid() for x in ("theta", "mu", "alpha"))
    for t in range(len(x_TD)):
        start_KK = s_KK if t % CHUNK == 0 else start_KK
        error_K = v_TK[t] - start_KK @ unit(k_TK[t])
        m_KK = mu_T[t] * m_KK + theta_T[t] * torch.outer(error_K, unit(k_TK[t]))
        s_KK = (1 - alpha_T[t]) * s_KK + m_KK
        reads.append(s_KK @ unit(q_TK[t]))
    return reads, {"memory": s_KK, "momentum": m_KK}


def ttt_read(weights: Named, rule: nn.Module, head: int, x_K: Tensor) -> Tensor:
    """f(x) = x + LN(W x + b), or with two layers."""
    if "w" in weights:
        z_K = weights["w"] @ x_K + weights["b"]
    else:
        hidden_F = F.gelu(weights["w1"] @ x_K + weights["b1"], approximate="tanh")
        z_K = weights["w2"] @ hidden_F + weights["b2"]
    y_K = (z_K - z_K.mean()) / (z_K.var(correction=0) + 1e-6).sqrt()
    return x_K + rule.scale_HK[head] * y_K + rule.shift_HK[head]


def ttt_loop(
    rule: nn.Module, head: int, x_TD: Tensor, q_TK: Tensor, k_TK: Tensor, v_TK: Tensor, memory: Named
) -> tuple[list[Tensor], Named]:
    first, reads = {name: w[head] for name, w in rule.start.items()}, []
    start = weights = {name: w + memory[name] for name, w in first.items()}
    for t in range(len(x_TD)):
        start = weights if t % CHUNK == 0 else start
        share = affine(rule.eta_proj, x_TD[t], head).sigmoid() * max(rule.place_C[t % CHUNK], 0)
        eta = STEP * share / q_TK.shape[1]
        grad = torch.func.grad(lambda w, t=t: (ttt_read(w, rule, head, k_TK[t]) - v_TK[t]).square().sum() / 2)(start)
        weights = {name: w - eta * grad[name] for name, w in weights.items()}
        reads.append(ttt_read(weights, rule, head, q_TK[t]))
    return reads, {name: w - first[name] for name, w in weights.items()}


def swiglu(weights: Named, x_K: Tensor) -> Tensor:
    return weights["w1"] @ (F.silu(weights["w0"] @ x_K) * (weights["w2"] @ x_K))


def muon(m_XY: Tensor) -> Tensor:
    """Newton and Schulz's five steps, taken on the singular values."""
    u_XZ, s_Z, v_ZY = torch.linalg.svd(m_XY, full_matrices=False)
    s_Z = s_Z / s_Z.norm()
    for _ in range(5):
        s_Z = 3.4445 * s_Z - 4.7750 * s_Z**3 + 2.0315 * s_Z**5
    return u_XZ @ torch.diag(s_Z) @ v_ZY


def lact_loop(
    rule: nn.Module, head: int, x_TD: Tensor, q_TK: Tensor, k_TK: Tensor, v_TK: Tensor, memory: Named,
    *, orthogonal: bool,
) -> tuple[list[Tensor], Named]:  # fmt: skip
    first, reads = {name: rule.start[name][head] for name in ("w0", "w1", "w2")}, []
    weights = {name: w + memory[name] for name, w in first.items()}
    momentum = {name: memory[f"momentum_{name}"] for name in first}
    mu_T = affine(rule.mu_proj, x_TD, head).sigmoid()
    for chunk in chunks(len(x_TD)):
        reads += [swiglu(weights, unit(F.silu(q_TK[t]))) for t in chunk]
        if len(chunk) < CHUNK:
            continue
        momentum = {name: mu_T[chunk.start : chunk.stop].mean() * m for name, m in momentum.items()}
        for t in chunk:
            grad = torch.func.grad(lambda w, t=t: swiglu(w, unit(F.silu(k_TK[t]))) @ F.silu(v_TK[t]))(weights)
            for j, name in enumerate(first):
                momentum[name] = momentum[name] + F.softplus(affine(rule.lr_proj, x_TD[t], 3 * head + j)) * grad[name]
        for name, w in weights.items():
            w = w + (muon(momentum[name]) if orthogonal else momentum[name])
            weights[name] = w / w.norm(dim=1, keepdim=True) * first[name].norm(dim=1, keepdim=True)
    written = {name: w - first[name] for name, w in weights.items()}
    return reads, written | {f"momentum_{name}": m for name, m in momentum.items()}


def convolved(x_TQ: Tensor, weight_OQ: Tensor) -> Tensor:
    """sum over o of w_o x_{t-o}, nothing before the document."""
    taps = range(len(weight_OQ))
    return torch.stack([sum(weight_OQ[o] * x_TQ[t - o] for o in taps if o <= t) for t in range(len(x_TQ))])


def beside(layer: nn.Module, x_TD: Tensor, loop: Loop, memory: list[Named]) -> tuple[Tensor, list[Named]]:
    """One document through the layer: projections, convolution, heads, the rule's loop, norm, output."""
    q_TD, k_TD, v_TD = convolved(x_TD @ layer.qkv_proj.weight.T, layer.conv_OQ).chunk(3, dim=1)
    reads, after, width = [], [], x_TD.shape[1] // len(memory)
    for head, own in enumerate(memory):
        part = slice(head * width, (head + 1) * width)
        o_TK, left = loop(layer.rule, head, x_TD, q_TD[:, part], k_TD[:, part], v_TD[:, part], own)
        reads.append(rms(torch.stack(o_TK)) * layer.norm.weight)
        after.append(left)
    return torch.cat(reads, 1) @ layer.out_proj.weight.T, after


MEMORIES = [
    ("delta_fast", {}, delta_loop),
    ("delta_fast", {"gated": False}, delta_loop),
    ("titans_fast", {}, titans_loop),
    ("ttt_linear", {}, ttt_loop),
    ("ttt_mlp", {}, ttt_loop),
    ("lact_fast", {"muon": False}, partial(lact_loop, orthogonal=False)),
    ("lact_fast", {"muon": True}, partial(lact_loop, orthogonal=True)),
]


@layouts
@pytest.mark.parametrize(("adapter", "options", "loop"), MEMORIES)
def test_a_memory_beside_attention(adapter, options, loop, segment_BT, reset):
    learner = make(adapter, reset=reset, **options)
    layer = learner.model.layers[0].self_attn.memory
    shake(layer)
    if adapter.startswith("ttt"):
        # A place whose share has become negative writes nothing.
        layer.rule.place_C.data[2] = -0.1
    x_BTD, initial = normal(1, *segment_BT.shape, 16), learner.adapter.initial()
    got_BTD, after = learner.adapter.read(StandIn(layer, x_BTD), packed(1, segment_BT), initial, write=True)
    blank = [{key: x[0, head].double() for key, x in layer.rule.initial().items()} for head in range(2)]
    want = []
    for row in range(2):
        memory = blank
        for where_T in documents(segment_BT[row]):
            memory = memory if reset == "task" else blank
            want_TD, memory = beside(layer, x_BTD[row, where_T], loop, memory)
            want.append(want_TD)
        for key in blank[0]:
            close(after[f"layers.0.self_attn.{key}"][row], torch.stack([own[key] for own in memory]))
    # Gates are fp32, and a norm in Muon has an epsilon: its five steps magnify both.
    same_with_gradients(got_BTD[segment_BT >= 0], torch.cat(want), layer, rtol=1e-5, atol=1e-5)


# Fast weights in the MLP's down-projection.


@dataclass(frozen=True)
class Write:
    """The arguments of `mlp_fast` that its loop knows."""

    rule: str = "hebb"
    keys: str = "l2"
    source: str = "embeddings"
    centre: bool = False
    decay: float = 0.7
    momentum: float = 0.0
    clip: float | None = None
    step: float = STEP


def one_write(layer: nn.Module, write: Write, z_CF: Tensor, x_CD: Tensor, s_DF: Tensor, mean_F: Tensor) -> Tensor:
    """The sum over one chunk of eta (v - S k) k^T, v alone for hebb, cut to the clip."""
    sum_DF, half = torch.zeros_like(s_DF), len(layer.conv_OD) // 2
    for c in range(CHUNK):
        k_F = z_CF[c] - mean_F
        k_F = unit(k_F) if write.keys == "l2" else k_F
        near = [(o, c + o - half) for o in range(len(layer.conv_OD)) if 0 <= c + o - half < CHUNK]
        v_D = sum(layer.conv_OD[o] * x_CD[s] for o, s in near) @ layer.target_DD
        error_D = v_D if write.rule == "hebb" else v_D - s_DF @ k_F
        scale = 1 / (1e-3 + k_F @ k_F) if write.rule == "nlms" else 1.0
        sum_DF = sum_DF + layer.log_step.exp() * scale * torch.outer(error_D, k_F)
    limit = float("inf") if write.clip is None else write.clip * layer.weight.detach().norm()
    return sum_DF * min(1.0, limit / sum_DF.norm())


def fast_down(layer: nn.Module, write: Write, z_TF: Tensor, x_TD: Tensor, memory: Named) -> tuple[Tensor, Named]:
    """o = (W0 + S) z; S <- decay S as a chunk begins; m <- mu m + write, S <- S + m as it ends."""
    reads = []
    for chunk in chunks(len(z_TF)):
        here = slice(chunk.start, chunk.stop)
        memory = {key: x if key == "momentum" else write.decay * x for key, x in memory.items()}
        reads.append(z_TF[here] @ (layer.weight + memory["memory"]).T)
        if len(chunk) < CHUNK:
            continue
        mean_F = write.centre * memory["key_sum"] / memory["key_count"].clamp(min=1)
        written_DF = one_write(layer, write, z_TF[here], x_TD[here], memory["memory"], mean_F)
        push_DF = write.momentum * memory["momentum"] + written_DF
        memory = {
            "memory": memory["memory"] + push_DF,
            "momentum": push_DF,
            "key_sum": memory["key_sum"] + z_TF[here].sum(0),
            "key_count": memory["key_count"] + CHUNK,
        }
    return torch.cat(reads), memory


WRITES = [
    Write(rule="delta"),
    Write(rule="delta", keys="raw", decay=1.0),
    Write(rule="nlms", momentum=0.5),
    Write(rule="nlms", keys="raw", clip=0.1),
    Write(momentum=0.5),
    Write(clip=0.1),
    Write(clip=0.1, momentum=0.5, keys="raw"),
    Write(source="hidden"),
    Write(source="hidden", rule="delta", clip=0.1),
    Write(centre=True),
    Write(centre=True, rule="delta", momentum=0.3),
]


def options_of(write: Write) -> dict[str, object]:
    return {name: getattr(write, name) for name in Write.__dataclass_fields__}


@layouts
@pytest.mark.parametrize("write", WRITES, ids=str)
def test_a_fast_down_projection(write, segment_BT, reset):
    learner = make(reset=reset, **options_of(write))
    mlp, layer = learner.model.layers[0].mlp, learner.model.layers[0].mlp.down_proj
    layer.conv_OD.data.copy_(normal(1, 5, 16))
    layer.target_DD.data.copy_(0.3 * normal(2, 16, 16))
    h_BTD, batch = normal(3, *segment_BT.shape, 16), packed(8, segment_BT)
    got_BTD, after = learner.adapter.read(StandIn(mlp, h_BTD), batch, learner.adapter.initial(), write=True)
    z_BTF = F.silu(h_BTD @ mlp.gate_proj.weight.T) * (h_BTD @ mlp.up_proj.weight.T)
    x_BTD = rms(h_BTD if write.source == "hidden" else learner.model.embed_tokens.weight[batch.tokens_BT])
    blank = {"key_sum": torch.zeros(24), "key_count": torch.zeros(1)}
    blank |= {"memory": torch.zeros(16, 24).double(), "momentum": torch.zeros(16, 24).double()}
    want = []
    for row in range(2):
        memory = blank
        for where_T in documents(segment_BT[row]):
            memory = memory if reset == "task" else blank
            want_TD, memory = fast_down(layer, write, z_BTF[row, where_T], x_BTD[row, where_T], memory)
            want.append(want_TD)
        for key in after:
            close(after[key][row], memory[key.rpartition(".")[2]], rtol=1e-4, atol=1e-5)
    # Its state is fp32.
    same_with_gradients(got_BTD[segment_BT >= 0], torch.cat(want), mlp, rtol=1e-4, atol=1e-5)


def test_the_clip_of_a_write_bites():
    """The control of the cases above that clip: without it they read something else."""
    logits = [make(clip=clip)(batch_of(tokens(8)), make().adapter.initial())[0] for clip in (None, 0.1)]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@torch.no_grad()
def test_linear_attention_is_a_limit_of_mlp_fast():
    """Chunks of one token, no decay, raw keys, the token itself as target: o = W0 z + tril(Z Z^T, -1) V."""
    learner = make(chunk=1, decay=1.0, keys="raw", step=1.0)
    mlp, layer = learner.model.layers[0].mlp, learner.model.layers[0].mlp.down_proj
    layer.conv_OD.zero_()[2] = 1.0
    layer.target_DD.copy_(torch.eye(16))
    h_BTD, x_BT = normal(4, 2, LENGTH, 16), tokens(3, rows=2)
    got_BTD, _ = learner.adapter.read(StandIn(mlp, h_BTD), batch_of(x_BT), learner.adapter.initial(), write=True)
    z_BTF = F.silu(h_BTD @ mlp.gate_proj.weight.T) * (h_BTD @ mlp.up_proj.weight.T)
    attention_BTD = (z_BTF @ z_BTF.mT).tril(-1) @ rms(learner.model.embed_tokens.weight[x_BT])
    close(got_BTD, z_BTF @ layer.weight.T + attention_BTD, rtol=1e-4, atol=1e-5)
    assert attention_BTD.abs().max() > 1e-2


@torch.no_grad()
def test_a_zero_convolution_is_the_plain_model():
    learner = make(reset="task")
    logits = [learner(batch_of(tokens(5)), learner.adapter.initial())[0]]
    for block in learner.model.layers:
        block.mlp.down_proj.conv_OD.zero_()
    logits.append(learner(batch_of(tokens(5)), learner.adapter.initial())[0])
    plain_BTV = plain_of(learner)(tokens(5))
    close(logits[1], plain_BTV, rtol=1e-12, atol=1e-12)
    assert (logits[0] - plain_BTV).abs().max() > 1e-2


def plain_of(learner: Learner) -> Nano:
    """A model without the adapter, with the same slow weights."""
    plain = make("none", window=learner.model.window).model
    assert not plain.load_state_dict(learner.model.state_dict(), strict=False).missing_keys
    return plain


# Descent: one step per chunk on the model's own loss.

# What was read before: keys and values, prompts and chunks, or nothing.
Past = Cache | list[tuple[Tensor, Tensor]] | None
# The logits of one chunk under the fast weights, (tokens_C, fast, past) -> [C, V]; the past grows by the chunk.
Logits = Callable[[Tensor, Named, Past], Tensor]


@dataclass
class Inner:
    """How steps are taken: `taken` records their gradients, or holds those to be taken instead."""

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
    """Fast weights are named as the matrices that they are added to."""
    weights = {name: plain.get_parameter(name) + x for name, x in fast.items()}
    return functional_call(plain, weights, (chunk_C[None],), {"cache": past})[0]


def lora_logits(plain: Nano, own: Named, scale: float, chunk_C: Tensor, fast: Named, past: Past) -> Tensor:
    """W0 + scale B A, A from its start."""
    weights = {}
    for name, a_RF in own.items():
        down = name.replace("fast.a_RI", "weight")
        mlp = name.removesuffix(".down_proj.fast.a_RI")
        weights[down] = plain.get_parameter(down) + scale * fast[f"{mlp}.b"] @ (a_RF + fast[f"{mlp}.a"])
    return functional_call(plain, weights, (chunk_C[None],), {"cache": past})[0]


def prompt_logits(plain: Nano, start_PD: Tensor, chunk_C: Tensor, fast: Named, past: Past) -> Tensor:
    """One row, [P; chunk; P'; chunk'; ...]: tokens see tokens and the prompt of their chunk, a prompt itself alone."""
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
    """The model written out for one row of vectors, their places, and who sees whom."""
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
    """A plain model with the learner's slow weights; `own`: slow weights that the adapter brought."""

    plain: Nano
    own: Named
    logits: Logits
    past: Callable[[], Past]
    reset: str

    def document(self, tokens_T: Tensor, fast: Named, inner: Inner) -> tuple[Tensor, Named]:
        """One document, chunk after chunk: read it, then step on it."""
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
        """Logits of all tokens but padding, lane after lane, and each lane's fast weights after."""
        blank, reads, lanes = {name: x[0].double() for name, x in initial.items()}, [], []
        for tokens_T, segment_T in zip(batch.tokens_BT, batch.segment_BT, strict=True):
            fast = blank
            for where_T in documents(segment_T):
                read_TV, fast = self.document(tokens_T[where_T], fast if self.reset == "task" else blank, inner)
                reads.append(read_TV)
            lanes.append(fast)
        return torch.cat(reads), lanes


def reference_of(learner: Learner, *, scale: float = 1.0, reset: str = "sequence", **others: object) -> Reference:
    plain = plain_of(learner)
    own = {
        name: x.detach().clone().requires_grad_()
        for name, x in learner.model.named_parameters()
        if name.endswith(("prompt", "fast.a_RI"))
    }
    if "prompt" in own:
        return Reference(plain, own, partial(prompt_logits, plain, own["prompt"]), list, reset)
    logits = partial(lora_logits, plain, own, scale) if own else partial(sgd_logits, plain)
    # Where a token sees but itself, no attention is kept.
    return Reference(plain, own, logits, (lambda: None) if plain.window == 1 else Cache, reset)


def inner_of(learner: Learner, *, clip: float | None = None, decay: float = 0.9, **others: object) -> Inner:
    log_step = learner.model.descent.log_step.detach().clone().requires_grad_()
    return Inner(log_step.exp(), clip, decay, second_order=bool(others.get("second_order")))


def outer(logits_XV: Tensor, batch: Batch) -> Tensor:
    """The loss of all real tokens, lane after lane."""
    return F.cross_entropy(logits_XV, batch.targets_BT[batch.segment_BT >= 0])


DESCENTS = [
    ("sgd_fast", {"share": 1.0, "clip": 1.5}),
    ("sgd_fast", {"share": 0.5, "clip": 1.0, "reset": "task"}),
    ("sgd_fast", {"share": 1.0, "clip": None, "decay": 1.0}),
    ("lora_fast", {"scale": 2.0}),
    ("lora_fast", {"scale": 0.5, "clip": 0.5, "reset": "task"}),
    ("prompt_fast", {}),
    ("prompt_fast", {"clip": 0.5, "reset": "task", "vectors": 2}),
]


@pytest.mark.parametrize(("window", "segment_BT"), [(1, PACKED), (5, PLAIN), (None, PACKED)], ids=["1", "5", "full"])
@pytest.mark.parametrize(("adapter", "options"), DESCENTS)
@torch.no_grad()
def test_descent_chunk_by_chunk(adapter, options, window, segment_BT):
    learner, batch = make(adapter, window=window, **options), packed(6, segment_BT)
    inner, initial = inner_of(learner, **options), learner.adapter.initial()
    want_XV, lanes = reference_of(learner, **options).read(batch, initial, inner)
    if inner.clip is not None:
        norms = [float(sum(g.square().sum() for g in grad.values())) ** 0.5 for grad in inner.taken]
        assert min(norms) < inner.clip < max(norms)
    got_BTV, after = learner(batch, initial)
    # The inner loss is fp32.
    close(got_BTV[segment_BT >= 0], want_XV, rtol=1e-4, atol=1e-5)
    for row, fast in enumerate(lanes):
        for name, x in fast.items():
            close(after[name][row], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("share", "blocks"), [(1.0, [0, 1]), (0.51, [0, 1]), (0.5, [1]), (0.1, [1])])
def test_the_last_blocks_take_sgd_steps(share, blocks):
    matrices = ("gate_proj", "up_proj", "down_proj")
    names = {f"layers.{i}.mlp.{matrix}.weight" for i in blocks for matrix in matrices}
    assert set(make("sgd_fast", share=share).adapter.initial()) == names


def backward(adapter: str, options: dict[str, object], batch: Batch) -> Learner:
    """A learner with the gradients of the outer loss."""
    learner = make(adapter, **options)
    logits_BTV, _ = learner(batch, learner.adapter.initial())
    outer(logits_BTV[batch.segment_BT >= 0], batch).backward()
    return learner


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize(("adapter", "options"), DESCENTS)
def test_slow_weights_through_the_steps(adapter, options, second_order):
    """First order: inner gradients are constants. Second order: they are not. Every slow weight, the step size too."""
    options, batch = options | {"second_order": second_order}, packed(6, PACKED)
    learner = backward(adapter, options, batch)
    reference, inner = reference_of(learner, **options), inner_of(learner, **options)
    loss = outer(reference.read(batch, learner.adapter.initial(), inner)[0], batch)
    slow = dict(reference.plain.named_parameters()) | reference.own
    *grads, step_grad = torch.autograd.grad(loss, [*slow.values(), inner.step])
    close(learner.model.descent.log_step.grad, step_grad * inner.step, rtol=1e-4, atol=1e-6)
    for name, grad in zip(slow, grads, strict=True):
        close(learner.model.get_parameter(name).grad, grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("adapter", ["sgd_fast", "lora_fast", "prompt_fast"])
def test_first_order_is_not_second_order(adapter):
    learners = [backward(adapter, {"second_order": x}, packed(6, PLAIN)) for x in (False, True)]
    first_VD, second_VD = (learner.model.embed_tokens.weight.grad for learner in learners)
    assert (first_VD - second_VD).norm() > 1e-2 * first_VD.norm()


@pytest.mark.parametrize(("adapter", "options"), DESCENTS)
def test_the_learned_step_size(adapter, options):
    """Its first-order gradient is a difference of losses where every inner gradient stays what it was."""
    batch, losses, by = packed(6, PLAIN), [], 1e-4
    learner = backward(adapter, options, batch)
    reference, inner, initial = (
        reference_of(learner, **options),
        inner_of(learner, **options),
        learner.adapter.initial(),
    )
    with torch.no_grad():
        reference.read(batch, initial, inner)
        for sign in (1, -1):
            moved = replace(inner, step=inner.step * math.exp(sign * by), replay=True, taken=list(inner.taken))
            losses.append(outer(reference.read(batch, initial, moved)[0], batch))
    slope = (losses[0] - losses[1]) / (2 * by)
    assert abs(slope) > 1e-3
    close(learner.model.descent.log_step.grad, slope, rtol=1e-4, atol=1e-6)
