"""`mlp_fast` against its own equations, in plain loops over chunks and tokens.

Shapes: B lanes, T time (of one document), C tokens of a chunk, D model width, F feed-forward width,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

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
    plain_of,
    rms,
    same_with_gradients,
    unit,
)
from tiny_adapters import LENGTH, SMALLER, batch_of, make, read, tokens
from torch import Tensor, nn

from ttt.kernels.inplace.steps_naive import spectral_norm_naive

PROMPT = SMALLER["prompt"]


@dataclass(frozen=True)
class Write:
    """The arguments of `mlp_fast` that the loop follows."""

    rule: str = "hebb"
    keys: str = "l2"
    source: str = "embeddings"
    centre: bool = False
    decay: float = 0.7
    momentum: float = 0.0
    clip: float | None = None
    step: float = STEP
    norm: str | None = None
    target: str = "conv"
    start: str = "next"
    write_at: str = "chunk"
    ridge: float = 1.0
    most_tokens: int = 8192
    learn_projection: bool = True

    def __str__(self) -> str:
        default = asdict(Write())
        return ",".join(f"{key}={value}" for key, value in asdict(self).items() if value != default[key]) or "hebb"


def target_of(layer: nn.Module, write: Write, x_CD: Tensor, c: int) -> Tensor | None:
    """The target of one token of a write; None where it has none."""
    if write.target == "next":
        return x_CD[c + 1] @ layer.target_DD if c + 1 < len(x_CD) else None
    half = len(layer.conv_OD) // 2
    near = [(o, c + o - half) for o in range(len(layer.conv_OD)) if 0 <= c + o - half < len(x_CD)]
    return sum(layer.conv_OD[o] * x_CD[s] for o, s in near) @ layer.target_DD


def one_write(layer: nn.Module, write: Write, z_CF: Tensor, x_CD: Tensor, s_DF: Tensor, mean_F: Tensor) -> Tensor:
    """The sum of eta (v - S k) k^T (v k^T for hebb), or eta times a fit; no longer than the clip."""
    step = layer.log_step.exp() * (layer.gain if write.start == "step_zero" else 1.0)
    whole_DF = layer.weight if write.rule in ("delta_whole", "ridge") else torch.zeros_like(s_DF)
    keys, errors = [], []
    for c in range(len(z_CF)):
        k_F, v_D = z_CF[c] - mean_F, target_of(layer, write, x_CD, c)
        k_F = unit(k_F) if write.keys == "l2" else k_F
        if v_D is not None:
            keys.append(k_F)
            errors.append(v_D if write.rule == "hebb" else v_D - (whole_DF + s_DF) @ k_F)
    sum_DF = torch.zeros_like(s_DF)
    if write.rule == "ridge":
        k_CF, error_CD = (torch.stack(rows[-write.most_tokens :]) for rows in (keys, errors))
        inverse_CC = torch.linalg.inv(k_CF @ k_CF.T + write.ridge * torch.eye(len(k_CF)))
        sum_DF = error_CD.T @ inverse_CC @ k_CF
    else:
        for k_F, error_D in zip(keys, errors, strict=True):
            sum_DF = sum_DF + torch.outer(error_D, k_F) / (1e-3 + k_F @ k_F if write.rule == "nlms" else 1.0)
    if write.norm == "spectral":
        sum_DF = sum_DF / spectral_norm_naive(sum_DF)
    sum_DF = step * sum_DF
    limit = float("inf") if write.clip is None else write.clip * layer.weight.detach().norm()
    return sum_DF * min(1.0, limit / sum_DF.norm())


def spans(write: Write, length: int) -> Iterator[tuple[range, bool, bool]]:
    """The tokens that read one state; does it decay before them, and are they written after them?"""
    if write.write_at == "document":
        yield range(length), True, True
    elif write.write_at == "prompt":
        yield range(min(PROMPT, length)), True, length >= PROMPT
        yield range(PROMPT, length), False, False
    else:
        yield from ((chunk, True, len(chunk) == CHUNK) for chunk in chunks(length))


def rows_kept(weight_DF: Tensor, s_DF: Tensor) -> Tensor:
    """W0 + S, each row scaled to the norm of W0's row."""
    pairs = zip(weight_DF, weight_DF + s_DF, strict=True)
    return torch.stack([sum_F * w_F.norm() / sum_F.norm() for w_F, sum_F in pairs])


def fast_down(layer: nn.Module, write: Write, z_TF: Tensor, x_TD: Tensor, memory: Named) -> tuple[Tensor, Named]:
    """o = (W0 + S) z; S <- decay S as a chunk begins; m <- mu m + write, S <- S + m at its end."""
    reads = []
    for span, fades, written in spans(write, len(z_TF)):
        here, decay = slice(span.start, span.stop), write.decay if fades else 1.0
        memory = {key: x if key == "momentum" else decay * x for key, x in memory.items()}
        read_DF = layer.weight + memory["memory"]
        read_DF = rows_kept(layer.weight, memory["memory"]) if write.norm == "rows" else read_DF
        reads.append(z_TF[here] @ read_DF.T)
        if not written:
            continue
        mean_F = write.centre * memory["key_sum"] / memory["key_count"].clamp(min=1)
        written_DF = one_write(layer, write, z_TF[here], x_TD[here], memory["memory"], mean_F)
        push_DF = write.momentum * memory["momentum"] + written_DF
        memory = {
            "memory": memory["memory"] + push_DF,
            "momentum": push_DF,
            "key_sum": memory["key_sum"] + z_TF[here].sum(0),
            "key_count": memory["key_count"] + len(span),
        }
    return torch.cat(reads), memory


WRITES = [
    Write(),
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
    Write(target="next", learn_projection=False),
    Write(target="next", source="hidden_raw", rule="delta_whole", step=0.1),
    Write(rule="delta_whole", keys="raw", clip=0.2),
    Write(start="step_zero", source="embeddings_raw"),
    Write(start="step_zero", rule="ridge", target="next"),
    Write(rule="ridge", keys="raw", clip=0.2, centre=True),
    Write(rule="ridge", ridge=0.3, norm="rows", momentum=0.4, most_tokens=3),
    Write(norm="rows"),
    Write(norm="rows", rule="nlms", keys="raw"),
    Write(norm="spectral"),
    Write(norm="spectral", start="step_zero", clip=0.1),
    Write(norm="spectral", rule="delta", momentum=0.5, centre=True),
    Write(write_at="prompt", clip=0.1),
    Write(write_at="prompt", rule="ridge", target="next", norm="rows", most_tokens=4),
    Write(write_at="prompt", rule="delta_whole", momentum=0.5, step=0.1),
    Write(write_at="document", target="next", norm="spectral"),
    Write(write_at="document", centre=True, keys="raw"),
    Write(write_at="document", rule="ridge", target="next", most_tokens=7, clip=0.3),
    Write(write_at="document", rule="ridge", centre=True, momentum=0.3),
]


@layouts
@pytest.mark.parametrize("write", WRITES, ids=str)
def test_a_fast_down_projection(write, segment_BT, reset):
    learner = make(reset=reset, **asdict(write))
    mlp, layer = learner.model.layers[0].mlp, learner.model.layers[0].mlp.down_proj
    if write.target == "conv":
        layer.conv_OD.data.copy_(normal(1, 5, 16))
    layer.target_DD.data.copy_(0.3 * normal(2, 16, 16))
    h_BTD, batch = normal(3, *segment_BT.shape, 16), packed(8, segment_BT)
    got_BTD, after = learner.adapter.read(StandIn(mlp, h_BTD), batch, learner.adapter.initial(), write=True)
    z_BTF = F.silu(h_BTD @ mlp.gate_proj.weight.T) * (h_BTD @ mlp.up_proj.weight.T)
    x_BTD = h_BTD if write.source.startswith("hidden") else learner.model.embed_tokens.weight[batch.tokens_BT]
    x_BTD = x_BTD if write.source.endswith("raw") else rms(x_BTD)
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
    # The state is fp32.
    same_with_gradients(got_BTD[segment_BT >= 0], torch.cat(want), mlp, rtol=1e-4, atol=1e-5)


def test_the_clip_of_a_write_bites():
    """The control of the clipped cases above: without a clip they read something else."""
    logits = [read(make(clip=clip), tokens(8)) for clip in (None, 0.1)]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@torch.no_grad()
def test_linear_attention_is_a_limit_of_mlp_fast():
    """With chunks of one token, no decay, raw keys, and the token itself as its target:

    o = W0 z + tril(Z Z^T, -1) V
    """
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
    logits = [read(learner, tokens(5))]
    for block in learner.model.layers:
        block.mlp.down_proj.conv_OD.zero_()
    logits.append(read(learner, tokens(5)))
    plain_BTV = plain_of(learner)(tokens(5))
    close(logits[1], plain_BTV, rtol=1e-12, atol=1e-12)
    assert (logits[0] - plain_BTV).abs().max() > 1e-2
