"""`mlp_fast` against its own equations, in plain loops over chunks and tokens.

Shapes: B lanes, T time (of one document), C tokens of a chunk, D model width, F feed-forward width,
V vocabulary.
"""

from __future__ import annotations

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
from tiny_adapters import LENGTH, batch_of, make, read, tokens
from torch import Tensor, nn


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


def one_write(layer: nn.Module, write: Write, z_CF: Tensor, x_CD: Tensor, s_DF: Tensor, mean_F: Tensor) -> Tensor:
    """The sum over one chunk of eta (v - S k) k^T (v k^T for hebb), no longer than the clip."""
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
    """o = (W0 + S) z; S <- decay S as a chunk begins; m <- mu m + write, S <- S + m at its end."""
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
]


@layouts
@pytest.mark.parametrize("write", WRITES, ids=str)
def test_a_fast_down_projection(write, segment_BT, reset):
    learner = make(reset=reset, **asdict(write))
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
