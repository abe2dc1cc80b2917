"""Numbers about fast weights: what a model's gated MLPs read and write, and how large and how full a state is.

Shapes: B sequences, T time, D model width, F feed-forward width, M x N any matrix.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import FastState, shared
from ttt.learner import Learner
from ttt.metrics import plasticity
from ttt.probes.induction import minus_earlier_mean, standard_error
from ttt.stream import IGNORE, Batch

PARTS = 8
# Sequences that are read; singular values are taken of the first few of them.
ROWS, SVD_ROWS = 32, 8


class Seen(NamedTuple):
    """One down-projection in one pass: its input (the keys), what W0 gives, and what the fast state adds."""

    z_BTF: Tensor
    slow_BTD: Tensor
    fast_BTD: Tensor


def gated_mlps(model: nn.Module) -> dict[str, nn.Module]:
    """name of the MLP -> its down-projection, plain or with fast weights in place."""
    found = {}
    for name, module in model.named_modules():
        down = getattr(module, "down_proj", None)
        weight = getattr(down, "weight", None)
        if isinstance(down, nn.Module) and isinstance(weight, Tensor) and weight.dim() == 2:
            found[name] = down
    return found


@contextmanager
def watching(model: nn.Module) -> Iterator[dict[str, Seen]]:
    """While open, the model may read one batch, at once or in pieces; then the dict holds what its MLPs saw."""
    seen: dict[str, Seen] = {}
    pieces: dict[str, list[Seen]] = {}

    def watch(name: str, down: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            slow_BTD = F.linear(inputs[0], down.weight, getattr(down, "bias", None))  # type: ignore[arg-type]
            pieces.setdefault(name, []).append(Seen(inputs[0], slow_BTD, output - slow_BTD))

        return down.register_forward_hook(hook)

    handles = [watch(name, down) for name, down in gated_mlps(model).items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        seen |= {name: Seen(*(torch.cat(x, dim=1) for x in zip(*parts, strict=True))) for name, parts in pieces.items()}


def effective_rank(x_MN: Tensor) -> Tensor:
    """Of each matrix in any leading dimensions: `ttt.metrics.plasticity.erank`; 0 for a zero matrix."""
    found = [plasticity.erank(plasticity.singular_values(each_MN)) for each_MN in x_MN.reshape(-1, *x_MN.shape[-2:])]
    return torch.tensor(found).reshape(x_MN.shape[:-2])


def cosines(z_TF: Tensor) -> Tensor:
    """[T, T], every position with every other."""
    unit_TF = F.normalize(z_TF.float(), dim=-1)
    return unit_TF @ unit_TF.T


def key_numbers(z_BTF: Tensor, tokens_BT: Tensor) -> dict[str, float]:
    """alignment: mean cosine of two positions with one token. collision: mean |cosine| with different tokens."""
    same, other = [], []
    for z_TF, tokens_T in zip(z_BTF, tokens_BT, strict=True):
        pairs_TT = torch.ones(len(z_TF), len(z_TF), dtype=torch.bool, device=z_TF.device).triu(1)
        is_same_TT = tokens_T[:, None] == tokens_T[None, :]
        cosine_TT = cosines(z_TF)
        same.append(cosine_TT[pairs_TT & is_same_TT])
        other.append(cosine_TT[pairs_TT & ~is_same_TT].abs())
    return {
        "alignment": float(torch.cat(same).mean()),
        "collision": float(torch.cat(other).mean()),
        "effective_rank": float(effective_rank(z_BTF[:SVD_ROWS]).mean()),
    }


def read_out(seen: Seen, part: slice = slice(None)) -> float:
    """|Z S^T| / |Z W0^T| over positions, mean over sequences."""
    fast_B, slow_B = (x_BTD[:, part].float().norm(dim=(1, 2)) for x_BTD in (seen.fast_BTD, seen.slow_BTD))
    return float((fast_B / slow_B).mean())


def tensor_numbers(state: FastState, model: nn.Module) -> list[dict[str, Any]]:
    """A row for each tensor: mean over lanes of its norm (Frobenius) and effective rank; |S|/|W0| where it has a W0."""
    layers = gated_mlps(model)
    rows = []
    for name, tensor in state.items():
        # What a chunk has gathered and not yet written is no memory.
        if name.startswith("open."):
            continue
        down = layers.get(name.rpartition(".")[0])
        weight = down.weight if down is not None else None
        norm = float(tensor.flatten(1).float().norm(dim=1).mean())
        is_matrix = tensor.dim() > 2 and min(tensor.shape[-2:]) > 1
        in_place = isinstance(weight, Tensor) and weight.shape == tensor.shape[-2:]
        rows.append(
            {
                "tensor": name,
                "shape": list(tensor.shape[1:]),
                "norm": norm,
                "over_w0": norm / float(weight.float().norm()) if in_place and isinstance(weight, Tensor) else None,
                "effective_rank": float(effective_rank(tensor[:SVD_ROWS]).mean()) if is_matrix else None,
            }
        )
    return rows


@torch.no_grad()
def probe_state(learner: Learner, batch: Batch) -> dict[str, Any]:
    """What the fast weights of `learner` do on `batch`, from the initial state and from the stream's.

    `tensors` (after reading, and as the stream left them), `layers` (with writes on), `parts` (bits a token).
    """
    learner.eval()
    batch = batch.rows(0, ROWS).to(next(learner.parameters()).device)
    initial = learner.adapter.initial()
    with watching(learner.model) as keys:
        bits = {"slow": bits_of(learner(batch, initial, write=False)[0], batch)}
    with watching(learner.model) as seen:
        logits_BTV, after = learner(batch, initial, write=True)
    bits["fast"] = bits_of(logits_BTV, batch)
    # Where more than the tokens passes through a layer (a prompt, say), there is no one key for each of them.
    keys, once = (
        {name: layer for name, layer in all_.items() if layer.z_BTF.shape[:2] == batch.tokens_BT.shape}
        for all_ in (keys, seen)
    )
    tensors = [{"state": "after reading", **row} for row in tensor_numbers(after, learner.model)]
    if learner.adapter.reset != "sequence":
        bits["carried"] = bits_of(learner(batch, shared(learner.fast), write=True)[0], batch)
        tensors += [{"state": "carried", **row} for row in tensor_numbers(learner.fast, learner.model)]
    layers = [row for name in keys for row in layer_numbers(name, once.get(name), keys[name].z_BTF, batch)]
    return {"sequences": len(batch.tokens_BT), "tensors": tensors, "layers": layers, "parts": by_position(bits)}


def layer_numbers(name: str, seen: Seen | None, z_BTF: Tensor, batch: Batch) -> list[dict[str, Any]]:
    """A row for the keys as they are, and one for keys minus the mean of earlier keys.

    Keys are those of the pass with writes, `seen`, or where that has none, `z_BTF` of the pass without.
    """
    z_BTF = z_BTF if seen is None else seen.z_BTF
    end = slice(-max(1, z_BTF.shape[1] // PARTS), None)
    out = {"read_out": seen and read_out(seen), "read_out_end": seen and read_out(seen, end)}
    keys = {"raw": z_BTF, "earlier mean": minus_earlier_mean(z_BTF)}
    return [{"layer": name, "keys": how, **key_numbers(z, batch.tokens_BT), **out} for how, z in keys.items()]


def bits_of(logits_BTV: Tensor, batch: Batch) -> Tensor:
    """[B, T] bits for each token; NaN where it is not scored."""
    flat = (logits_BTV.float().flatten(0, 1), batch.targets_BT.flatten())
    nats_BT = F.cross_entropy(*flat, ignore_index=IGNORE, reduction="none").view_as(batch.targets_BT)
    return (nats_BT / math.log(2)).masked_fill(batch.targets_BT == IGNORE, math.nan).cpu()


def by_position(bits: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Bits per scored token in PARTS equal parts of the sequence, in each mode; `gain` is mode minus slow.

    `gain_se` is the standard error of the gain over sequences.
    """
    rows = []
    for positions in torch.arange(bits["slow"].shape[1]).tensor_split(PARTS):
        if not len(positions):
            continue
        row: dict[str, Any] = {"from": int(positions[0]), "to": int(positions[-1]) + 1}
        for mode, bits_BT in bits.items():
            row[mode] = float(bits_BT[:, positions].nanmean())
            if mode != "slow":
                gain_B = (bits_BT - bits["slow"])[:, positions].nanmean(1)
                gain_B = gain_B[gain_B.isfinite()]
                row[f"{mode}_gain"] = row[mode] - row["slow"]
                row[f"{mode}_gain_se"] = standard_error(gain_B.double().numpy())
        rows.append(row)
    return rows


def journal_numbers(file: Path) -> list[dict[str, Any]]:
    """The adapter's diagnostics of each evaluation in a run's metrics.jsonl, with its row and tokens."""
    events = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    return [
        {"row": event["row"], "tokens": event["tokens"], **event.get("diagnostics", {})}
        for event in events
        if event["event"] == "evaluated"
    ]
