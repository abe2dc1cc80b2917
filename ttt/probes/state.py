"""Numbers about fast weights: what gated MLPs read and write, and how large and full a state is.

Shapes: B sequences, T time, D model width, F feed-forward width, M x N any matrix.
"""

from __future__ import annotations

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
from ttt.models.gated import down_projections_of
from ttt.probes.induction import minus_earlier_mean, standard_error
from ttt.storage import journal
from ttt.stream import IGNORE, Batch

# Equal parts of a sequence, by which bits are averaged.
PARTS = 8
# Sequences that are read, and how many of them get singular values, which are slow.
ROWS, SVD_ROWS = 32, 8


class Seen(NamedTuple):
    """One down-projection in one pass.

    `z_BTF` is its input (the keys), `slow_BTD` the output of W0, `fast_BTD` what the state adds.
    """

    z_BTF: Tensor
    slow_BTD: Tensor
    fast_BTD: Tensor


@contextmanager
def watching(model: nn.Module) -> Iterator[dict[str, Seen]]:
    """Record what the MLPs see while the model reads one batch, at once or piece by piece.

    The dict that this yields is filled when the context closes.
    """
    seen: dict[str, Seen] = {}
    pieces: dict[str, list[Seen]] = {}

    def watch(name: str, down: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            # The module adds the state's output to that of W0: subtract the latter.
            slow_BTD = F.linear(inputs[0], down.weight, getattr(down, "bias", None))  # type: ignore[arg-type]
            pieces.setdefault(name, []).append(Seen(inputs[0], slow_BTD, output - slow_BTD))

        return down.register_forward_hook(hook)

    handles = [watch(name, down) for name, down in down_projections_of(model).items()]
    try:
        yield seen
    finally:
        for handle in handles:
            # Hooks go also after an error: one that stays would keep the activations of every pass.
            handle.remove()
        for name, parts in pieces.items():
            seen[name] = Seen(*(torch.cat(x, dim=1) for x in zip(*parts, strict=True)))


def effective_rank(x_MN: Tensor) -> Tensor:
    """Return `ttt.metrics.plasticity.erank` of each matrix [..., M, N]; 0 for a zero matrix."""
    ranks = [plasticity.erank(plasticity.singular_values(each_MN)) for each_MN in x_MN.reshape(-1, *x_MN.shape[-2:])]
    return torch.tensor(ranks).reshape(x_MN.shape[:-2])


def cosines(z_TF: Tensor) -> Tensor:
    """Return the cosines [T, T] of every position with every other."""
    unit_TF = F.normalize(z_TF.float(), dim=-1)
    return unit_TF @ unit_TF.T


def key_numbers(z_BTF: Tensor, tokens_BT: Tensor) -> dict[str, float]:
    """Return how keys of equal and of different tokens compare.

    `alignment` is the mean cosine of two positions with equal tokens, `collision` the mean |cosine|
    of two with different tokens.
    """
    same, other = [], []
    for z_TF, tokens_T in zip(z_BTF, tokens_BT, strict=True):
        # Above the diagonal every pair of positions counts once, and none with itself.
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
    """Return |Z S^T| / |Z W0^T| over the positions in `part`, averaged over sequences."""
    fast_B, slow_B = (x_BTD[:, part].float().norm(dim=(1, 2)) for x_BTD in (seen.fast_BTD, seen.slow_BTD))
    return float((fast_B / slow_B).mean())


def tensor_numbers(state: FastState, model: nn.Module) -> list[dict[str, Any]]:
    """Return a row for each tensor of the state.

    Its Frobenius norm and effective rank are means over lanes; `over_w0` is |S| / |W0| if the
    tensor stands in place of a W0.
    """
    layers = down_projections_of(model)
    rows = []
    for name, tensor in state.items():
        # An open chunk has been gathered but not yet written: it is no memory.
        if name.startswith("open."):
            continue
        down = layers.get(name.rpartition(".")[0])
        weight = down.weight if down is not None else None
        # The first dimension is that of the lanes.
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
    """Measure what the fast weights of `learner` do on `batch`.

    Returns `tensors` (the state after reading from the initial one, and the state that the stream
    left), `layers` (keys and read-out with writes on) and `parts` (bits per token by position).
    """
    learner.eval()
    batch = batch.rows(0, ROWS).to(next(learner.parameters()).device)
    initial = learner.adapter.initial()
    with watching(learner.model) as keys:
        bits = {"slow": bits_of(learner(batch, initial, write=False)[0], batch)}
    with watching(learner.model) as seen:
        logits_BTV, after = learner(batch, initial, write=True)
    bits["fast"] = bits_of(logits_BTV, batch)
    # If more than the tokens passes through a layer, such as a prompt, positions are not tokens.
    keys, written = (
        {name: layer for name, layer in layers.items() if layer.z_BTF.shape[:2] == batch.tokens_BT.shape}
        for layers in (keys, seen)
    )
    tensors = [{"state": "after reading", **row} for row in tensor_numbers(after, learner.model)]
    # A state that resets at each sequence is never carried.
    if learner.adapter.reset != "sequence":
        bits["carried"] = bits_of(learner(batch, shared(learner.fast), write=True)[0], batch)
        tensors += [{"state": "carried", **row} for row in tensor_numbers(learner.fast, learner.model)]
    rows = [row for name in keys for row in layer_numbers(name, written.get(name), keys[name].z_BTF, batch)]
    return {"sequences": len(batch.tokens_BT), "tensors": tensors, "layers": rows, "parts": by_position(bits)}


def layer_numbers(name: str, seen: Seen | None, z_BTF: Tensor, batch: Batch) -> list[dict[str, Any]]:
    """Return a row for the keys as they are, and one for keys minus the mean of earlier keys.

    The keys are those of the pass with writes, `seen`, or if that has none, `z_BTF` of the pass
    without writes.
    """
    z_BTF = z_BTF if seen is None else seen.z_BTF
    end = slice(-max(1, z_BTF.shape[1] // PARTS), None)
    # Without a pass that wrote there is no read-out: both are None.
    out = {"read_out": seen and read_out(seen), "read_out_end": seen and read_out(seen, end)}
    keys = {"raw": z_BTF, "earlier mean": minus_earlier_mean(z_BTF)}
    return [{"layer": name, "keys": how, **key_numbers(z, batch.tokens_BT), **out} for how, z in keys.items()]


def bits_of(logits_BTV: Tensor, batch: Batch) -> Tensor:
    """Return the bits [B, T] of each token; NaN where it is not scored."""
    flat = (logits_BTV.float().flatten(0, 1), batch.targets_BT.flatten())
    nats_BT = F.cross_entropy(*flat, ignore_index=IGNORE, reduction="none").view_as(batch.targets_BT)
    return (nats_BT / math.log(2)).masked_fill(batch.targets_BT == IGNORE, math.nan).cpu()


def by_position(bits: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Return bits per scored token in PARTS equal parts of the sequence, in each mode.

    `gain` is the mode minus slow, `gain_se` its standard error over sequences.
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
                # A sequence without a scored token in this part has no gain.
                gain_B = gain_B[gain_B.isfinite()]
                row[f"{mode}_gain"] = row[mode] - row["slow"]
                row[f"{mode}_gain_se"] = standard_error(gain_B.double().numpy())
        rows.append(row)
    return rows


def journal_numbers(file: Path) -> list[dict[str, Any]]:
    """Return row, tokens and the adapter's diagnostics of each evaluation in a metrics.jsonl."""
    return [
        {"row": event["row"], "tokens": event["tokens"], **event.get("diagnostics", {})}
        for event in journal.read(file)
        if event["event"] == "evaluated"
    ]
