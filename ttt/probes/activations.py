"""The experiment of induction.py on a trained model: its own keys, its own unembedding, its own later layers.

    prompt      random tokens, k* v* planted in the first third, k* again at n in the last third
    lens        e_w^T dW z_n, with dW = sum over t < n - 1 of v_t z_t^T, all of one layer
    true        logits at n when that layer's read at n is (W0 + eta dW) z_n, minus those without
                eta such that |eta dW z_n| / |W0 z_n| is one of RATIOS

Only the read at n sees the write: no position reads what a later one wrote. Fast weights are off throughout.
Shapes: B prompts, T time, V vocabulary, D model width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.learner import Learner
from ttt.probes.induction import minus_earlier_mean, read_write, standard_error, standing
from ttt.probes.state import Seen, effective_rank, gated_mlps, watching
from ttt.stream import Batch

RATIOS = (0.01, 0.03, 0.1)
TARGETS = ("next token", "reconstruction", "shuffled")
# How Z is prepared, keys and query alike.
KEYS: dict[str, Callable[[Tensor], Tensor]] = {
    "raw": lambda z_BTF: z_BTF,
    "earlier mean": minus_earlier_mean,
    "unit length": lambda z_BTF: F.normalize(z_BTF, dim=-1),
}
# Prompts in one pass; of how many of them singular values are taken.
ROWS, SVD_ROWS = 32, 4

Columns = dict[str, Tensor]
# layer, keys; and for a change of logits target, ratio (None: the lens)
Key = tuple[str | float | None, ...]


class Prompts(NamedTuple):
    """Each row is one document; k* stands at `planted` and at `query`, v* behind `planted` only."""

    tokens_BT: Tensor
    planted_B: Tensor
    query_B: Tensor
    k_B: Tensor
    v_B: Tensor

    def rows(self, start: int, stop: int) -> Prompts:
        return Prompts(*(x[start:stop] for x in self))


def draw_prompts(count: int, *, length: int, vocab: int, seed: int) -> Prompts:
    """Raises ValueError where a prompt has no room for three thirds or a vocabulary none for others."""
    if length < 9 or vocab < 5:
        raise ValueError(f"prompts of {length} tokens over {vocab} words: needs at least 9 tokens and 5 words")
    rng = torch.Generator().manual_seed(seed)
    third, rows = length // 3, torch.arange(count)
    planted_B = torch.randint(1, third - 1, (count,), generator=rng)
    query_B = torch.randint(length - third, length, (count,), generator=rng)
    k_B = torch.randint(vocab, (count,), generator=rng)
    v_B = (k_B + torch.randint(1, vocab, (count,), generator=rng)) % vocab
    tokens_BT = torch.randint(vocab - 2, (count, length), generator=rng)
    # Two words are left out: number the others from 0.
    for word_B in (torch.minimum(k_B, v_B), torch.maximum(k_B, v_B)):
        tokens_BT += tokens_BT >= word_B[:, None]
    tokens_BT[rows, planted_B], tokens_BT[rows, planted_B + 1], tokens_BT[rows, query_B] = k_B, v_B, k_B
    return Prompts(tokens_BT, planted_B, query_B, k_B, v_B)


@torch.no_grad()
def probe_activations(
    learner: Learner,
    prompts: Prompts,
    *,
    true_prompts: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """`rows` (a layer, keys, target and ratio each), `keys` (geometry of a layer's Z), `off` (without any write).

    True changes cost a pass each: they are measured on the first `true_prompts` only.
    """
    learner.eval()
    rng = torch.Generator().manual_seed(seed)
    device = next(learner.parameters()).device
    rows: dict[Key, list[Columns]] = {}
    keys: dict[Key, list[Columns]] = {}
    off: list[Columns] = []
    for start in range(0, len(prompts.tokens_BT), ROWS):
        part = Prompts(*(x.to(device) for x in prompts)).rows(start, start + ROWS)
        true = part.rows(0, max(0, true_prompts - start))
        value = values(unembedding(learner.model), part, rng=rng)
        with watching(learner.model) as seen:
            off_BV = query_logits(learner, part)
        off.append({"rank_v": standing(off_BV, part.v_B).rank_B, "rank_k": standing(off_BV, part.k_B).rank_B})
        for name, layer in seen.items():
            for how, prepare in KEYS.items():
                z_BTF = prepare(layer.z_BTF)
                keys.setdefault((name, how), []).append(geometry(z_BTF, part))
                for target, value_BTD in value.items():
                    read_BD = read_write(z_BTF, value_BTD=value_BTD, query_B=part.query_B)
                    lens = columns(read_BD @ unembedding(learner.model).T, part)
                    rows.setdefault((name, how, target, None), []).append(lens)
                    for ratio, found in changes(learner, true, name, layer=layer, read_BD=read_BD, off_BV=off_BV):
                        rows.setdefault((name, how, target, ratio), []).append(found)
        progress(min(start + ROWS, len(prompts.tokens_BT)))
    return {"rows": summarize(rows), "keys": summarize(keys), "off": summarize({(): off})[0]}


def unembedding(model: nn.Module) -> Tensor:
    """[V, D]: the output's own rows where it has them, else the tied embedding."""
    head = getattr(model, "lm_head", None)
    module = head if head is not None else model.get_input_embeddings()  # type: ignore[operator]
    weight: Tensor = module.weight
    return weight


def values(unembed_VD: Tensor, prompts: Prompts, *, rng: torch.Generator) -> dict[str, Tensor]:
    """target -> the value [B, T, D] written at each position; `shuffled`: next tokens of other positions."""
    next_BT = prompts.tokens_BT.roll(-1, dims=1)
    # A random order in which the positions that are not written stay behind those that are.
    chance_BT = torch.rand(next_BT.shape, generator=rng).to(next_BT.device)
    positions_T = torch.arange(next_BT.shape[1], device=next_BT.device)
    chance_BT = torch.where(positions_T < prompts.query_B[:, None] - 1, chance_BT, 2.0)
    tokens = (next_BT, prompts.tokens_BT, next_BT.gather(1, chance_BT.argsort(dim=1)))
    return {target: unembed_VD[words_BT] for target, words_BT in zip(TARGETS, tokens, strict=True)}


def changes(
    learner: Learner, prompts: Prompts, name: str, *, layer: Seen, read_BD: Tensor, off_BV: Tensor
) -> Iterator[tuple[float, Columns]]:
    """The true change of the logits of `prompts` (the first rows of the others) for each ratio."""
    count = len(prompts.query_B)
    if not count:
        return
    down = gated_mlps(learner.model)[name]
    slow_B1 = at(layer.slow_BTD[:count], prompts.query_B).norm(dim=1, keepdim=True)
    for ratio in RATIOS:
        with nudged(down, ratio * slow_B1 * F.normalize(read_BD[:count], dim=1), at_B=prompts.query_B):
            on_BV = query_logits(learner, prompts)
        yield ratio, columns(on_BV - off_BV[:count], prompts) | {"rank_v_on": standing(on_BV, prompts.v_B).rank_B}


def columns(change_BV: Tensor, prompts: Prompts) -> Columns:
    """What a change of logits does to v* and k* of each prompt."""
    v, k = standing(change_BV, prompts.v_B), standing(change_BV, prompts.k_B)
    numbers = {"v": v.value_B, "z_v": v.z_B, "rank_v": v.rank_B, "argmax_v": v.rank_B == 1}
    return numbers | {"k": k.value_B, "z_k": k.z_B, "rank_k": k.rank_B}


def geometry(z_BTF: Tensor, prompts: Prompts) -> Columns:
    """c_align = cos(z_t*, z_n); collision = mean |cos(z_t, z_n)| over the other t < n; effective rank of Z."""
    query_BF = at(z_BTF, prompts.query_B)
    cosine_BT = F.cosine_similarity(z_BTF, query_BF[:, None], dim=-1)
    positions_T = torch.arange(z_BTF.shape[1], device=z_BTF.device)
    other_BT = (positions_T < prompts.query_B[:, None]) & (positions_T != prompts.planted_B[:, None])
    return {
        "c_align": at(cosine_BT, prompts.planted_B),
        "collision": (cosine_BT.abs() * other_BT).sum(1) / other_BT.sum(1),
        "effective_rank": effective_rank(z_BTF[:SVD_ROWS]),
    }


def at(x_BTX: Tensor, position_B: Tensor) -> Tensor:
    return x_BTX[torch.arange(len(position_B), device=x_BTX.device), position_B]


def query_logits(learner: Learner, prompts: Prompts) -> Tensor:
    """[B, V] logits at the query, fast weights off."""
    batch = Batch(prompts.tokens_BT, prompts.tokens_BT, torch.zeros_like(prompts.tokens_BT))
    return at(learner(batch, learner.adapter.initial(), write=False)[0], prompts.query_B).float()


@contextmanager
def nudged(down: nn.Module, step_BD: Tensor, *, at_B: Tensor) -> Iterator[None]:
    """While open, `down` gives `step_BD` more at position `at_B` of each row."""

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        output = output.clone()
        output[torch.arange(len(at_B), device=output.device), at_B] += step_BD.to(output.dtype)
        return output

    handle = down.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def summarize(rows: dict[Any, list[Columns]]) -> list[dict[str, Any]]:
    """A row for each key: means over prompts, and standard errors under `..._se`."""
    summed = []
    for key, parts in rows.items():
        row: dict[str, Any] = dict(zip(("layer", "keys", "target", "ratio"), key, strict=False))
        for name in parts[0]:
            values = torch.cat([part[name] for part in parts]).double().cpu().numpy()
            row |= {name: float(values.mean()), f"{name}_se": standard_error(values)}
        summed.append(row)
    return summed
