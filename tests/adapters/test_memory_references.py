"""Memories beside attention against their own equations, in plain loops over tokens.

Shapes: B lanes, T time (of one document), C tokens of a chunk, D model width, F feed-forward width,
K head width, O taps, Q = 3 D, X, Y, Z any.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from reference_loops import (
    CHUNK,
    STEP,
    Named,
    StandIn,
    chunks,
    close,
    documents,
    layouts,
    normal,
    packed,
    rms,
    same_with_gradients,
    unit,
)
from tiny_adapters import make
from torch import Tensor, nn

# What one head reads in one document, and what it leaves.
Loop = Callable[[nn.Module, int, Tensor, Tensor, Tensor, Tensor, Named], tuple[list[Tensor], Named]]


def shake(module: nn.Module, *, by: float = 0.3) -> None:
    """Move every parameter from its start: gates then differ between tokens, and norms from 1."""
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.add_(by * normal(seed, *parameter.shape))


def affine(linear: nn.Linear, x_TD: Tensor, head: int) -> Tensor:
    return x_TD @ linear.weight[head] + linear.bias[head]


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
    """Five steps of Newton-Schulz, applied to the singular values."""
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
    """sum over o of w_o x_{t-o}, with nothing from before the document."""
    taps = range(len(weight_OQ))
    return torch.stack([sum(weight_OQ[o] * x_TQ[t - o] for o in taps if o <= t) for t in range(len(x_TQ))])


def beside(layer: nn.Module, x_TD: Tensor, loop: Loop, memory: list[Named]) -> tuple[Tensor, list[Named]]:
    """One document through the layer: projections, convolution, the rule's loop, norm, output."""
    q_TD, k_TD, v_TD = convolved(x_TD @ layer.qkv_proj.weight.T, layer.conv_OQ).chunk(3, dim=1)
    reads, after, width = [], [], x_TD.shape[1] // len(memory)
    for head, before in enumerate(memory):
        part = slice(head * width, (head + 1) * width)
        o_TK, written = loop(layer.rule, head, x_TD, q_TD[:, part], k_TD[:, part], v_TD[:, part], before)
        reads.append(rms(torch.stack(o_TK), eps=1e-5) * layer.norm.weight)
        after.append(written)
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
        # A place with a negative share writes nothing.
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
            close(after[f"layers.0.self_attn.{key}"][row], torch.stack([of_head[key] for of_head in memory]))
    # Gates are fp32, and the norm in Muon has an epsilon: its five steps magnify both.
    same_with_gradients(got_BTD[segment_BT >= 0], torch.cat(want), layer, rtol=1e-5, atol=1e-5)
