"""The experiment of induction.py on a trained model, with its keys, unembedding and later layers.

    prompt      random tokens, k* v* planted in the first third, k* again at n in the last third
    lens        e_w^T dW z_n, with dW = sum over t < n - 1 of v_t z_t^T, all of one layer
    true        logits at n when that layer's read at n is (W0 + eta dW) z_n, minus those without
                eta such that |eta dW z_n| / |W0 z_n| is one of RATIOS

Only the read at n sees the write: no position reads what a later one wrote. Fast weights are off
throughout.
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
from ttt.models.gated import down_projections_of
from ttt.probes.induction import minus_earlier_mean, read_write, standard_error, standing
from ttt.probes.state import Seen, effective_rank, watching
from ttt.stream import Batch

RATIOS = (0.01, 0.03, 0.1)
TARGETS = ("next token", "reconstruction", "shuffled")
# How keys and query are prepared.
KEYS: dict[str, Callable[[Tensor], Tensor]] = {
    "raw": lambda z_BTF: z_BTF,
    "earlier mean": minus_earlier_mean,
    "unit length": lambda z_BTF: F.normalize(z_BTF, dim=-1),
}
# Prompts in one pass, and how many of them get singular values, which are slow.
ROWS, SVD_ROWS = 32, 4

Columns = dict[str, Tensor]
# (layer, keys), and for a change of logits also (target, ratio); the ratio None is the lens
Key = tuple[str | float | None, ...]


class PlantedPrompts(NamedTuple):
    """Prompts, each a document: k* stands at `planted` and at `query`, v* only after `planted`."""

    tokens_BT: Tensor
    planted_B: Tensor
    query_B: Tensor
    k_B: Tensor
    v_B: Tensor

    def rows(self, start: int, stop: int) -> PlantedPrompts:
        return PlantedPrompts(*(x[start:stop] for x in self))


def draw_prompts(count: int, *, length: int, vocab: int, seed: int) -> PlantedPrompts:
    """Draw random prompts with k* v* planted in each.

    Raises ValueError if a prompt is too short for three thirds, or a vocabulary for other words.
    """
    if length < 9 or vocab < 5:
        raise ValueError(f"prompts of {length} tokens over {vocab} words: needs at least 9 tokens and 5 words")
    rng = torch.Generator().manual_seed(seed)
    third, rows = length // 3, torch.arange(count)
    planted_B = torch.randint(1, third - 1, (count,), generator=rng)
    query_B = torch.randint(length - third, length, (count,), generator=rng)
    k_B = torch.randint(vocab, (count,), generator=rng)
    # k* plus 1 .. V - 1, modulo V, is any word but k*, each with the same chance.
    v_B = (k_B + torch.randint(1, vocab, (count,), generator=rng)) % vocab
    tokens_BT = torch.randint(vocab - 2, (count, length), generator=rng)
    # The other tokens are drawn from V - 2 words: shift them past k* and v*, the smaller first.
    for word_B in (torch.minimum(k_B, v_B), torch.maximum(k_B, v_B)):
        tokens_BT += tokens_BT >= word_B[:, None]
    tokens_BT[rows, planted_B], tokens_BT[rows, planted_B + 1], tokens_BT[rows, query_B] = k_B, v_B, k_B
    return PlantedPrompts(tokens_BT, planted_B, query_B, k_B, v_B)


@torch.no_grad()
def probe_activations(
    learner: Learner,
    prompts: PlantedPrompts,
    *,
    true_prompts: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Measure what one write would do in each layer of `learner`.

    Returns `rows` (one for each layer, keys, target and ratio), `keys` (the geometry of each
    layer's keys) and `off` (the ranks without any write). A true change costs a pass of the model:
    it is measured on the first `true_prompts` prompts only.
    """
    learner.eval()
    rng = torch.Generator().manual_seed(seed)
    device = next(learner.parameters()).device
    rows: dict[Key, list[Columns]] = {}
    keys: dict[Key, list[Columns]] = {}
    off: list[Columns] = []
    for start in range(0, len(prompts.tokens_BT), ROWS):
        part = PlantedPrompts(*(x.to(device) for x in prompts)).rows(start, start + ROWS)
        # `true_prompts` counts over all parts, and each part takes what is left of it.
        true = part.rows(0, max(0, true_prompts - start))
        values = written_values(unembedding(learner.model), part, rng=rng)
        with watching(learner.model) as seen:
            off_BV = query_logits(learner, part)
        # The reference: where k* and v* stand before any write.
        off.append({"rank_v": standing(off_BV, part.v_B).rank_B, "rank_k": standing(off_BV, part.k_B).rank_B})
        for name, layer in seen.items():
            for how, prepare in KEYS.items():
                z_BTF = prepare(layer.z_BTF)
                keys.setdefault((name, how), []).append(key_geometry(z_BTF, part))
                for target, value_BTD in values.items():
                    read_BD = read_write(z_BTF, value_BTD=value_BTD, query_B=part.query_B)
                    lens = word_changes(read_BD @ unembedding(learner.model).T, part)
                    rows.setdefault((name, how, target, None), []).append(lens)
                    for ratio, true_columns in true_changes(
                        learner, true, name, layer=layer, read_BD=read_BD, off_BV=off_BV
                    ):
                        rows.setdefault((name, how, target, ratio), []).append(true_columns)
        progress(min(start + ROWS, len(prompts.tokens_BT)))
    return {"rows": mean_rows(rows), "keys": mean_rows(keys), "off": mean_rows({(): off})[0]}


def unembedding(model: nn.Module) -> Tensor:
    """Return the output's matrix [V, D]: the head's if there is one, else the tied embedding."""
    # Models of ours tie their output to the embedding; others say where theirs is.
    find: Any = getattr(model, "get_output_embeddings", model.get_input_embeddings)
    module = find()
    weight: Tensor = module.weight
    return weight


def written_values(unembed_VD: Tensor, prompts: PlantedPrompts, *, rng: torch.Generator) -> dict[str, Tensor]:
    """Return target -> the value [B, T, D] written at each position.

    "shuffled" takes the next token of another position that is written: same words, wrong places.
    """
    # The last position gets the first token, but it is
    # never written: `read_write` stops before n - 1.
    next_BT = prompts.tokens_BT.roll(-1, dims=1)
    # Sorting by chance shuffles the written positions; 2.0 keeps all others after them.
    chance_BT = torch.rand(next_BT.shape, generator=rng).to(next_BT.device)
    positions_T = torch.arange(next_BT.shape[1], device=next_BT.device)
    chance_BT = torch.where(positions_T < prompts.query_B[:, None] - 1, chance_BT, 2.0)
    tokens = (next_BT, prompts.tokens_BT, next_BT.gather(1, chance_BT.argsort(dim=1)))
    return {target: unembed_VD[words_BT] for target, words_BT in zip(TARGETS, tokens, strict=True)}


def true_changes(
    learner: Learner, prompts: PlantedPrompts, name: str, *, layer: Seen, read_BD: Tensor, off_BV: Tensor
) -> Iterator[tuple[float, Columns]]:
    """Yield for each ratio the true change of the logits at the query.

    `prompts` are the first of those to which `layer`, `read_BD` and `off_BV` belong.
    """
    count = len(prompts.query_B)
    if not count:
        return
    down = down_projections_of(learner.model)[name]
    # The step is scaled to the output of W0, because layers differ widely in their norms.
    slow_B1 = at(layer.slow_BTD[:count], prompts.query_B).norm(dim=1, keepdim=True)
    for ratio in RATIOS:
        with nudged(down, ratio * slow_B1 * F.normalize(read_BD[:count], dim=1), at_B=prompts.query_B):
            on_BV = query_logits(learner, prompts)
        yield ratio, word_changes(on_BV - off_BV[:count], prompts) | {"rank_v_on": standing(on_BV, prompts.v_B).rank_B}


def word_changes(change_BV: Tensor, prompts: PlantedPrompts) -> Columns:
    """Return what a change of logits does to v* and k* of each prompt."""
    v, k = standing(change_BV, prompts.v_B), standing(change_BV, prompts.k_B)
    numbers = {"v": v.value_B, "z_v": v.z_B, "rank_v": v.rank_B, "argmax_v": v.rank_B == 1}
    return numbers | {"k": k.value_B, "z_k": k.z_B, "rank_k": k.rank_B}


def key_geometry(z_BTF: Tensor, prompts: PlantedPrompts) -> Columns:
    """Return how the query's key compares with the others.

    c_align = cos(z_t*, z_n); collision = mean |cos(z_t, z_n)| over the other t < n; effective rank
    of Z.
    """
    query_BF = at(z_BTF, prompts.query_B)
    cosine_BT = F.cosine_similarity(z_BTF, query_BF[:, None], dim=-1)
    positions_T = torch.arange(z_BTF.shape[1], device=z_BTF.device)
    other_BT = (positions_T < prompts.query_B[:, None]) & (positions_T != prompts.planted_B[:, None])
    return {
        "c_align": at(cosine_BT, prompts.planted_B),
        # This is a mean over the other earlier positions: the mask is 0 at all others.
        "collision": (cosine_BT.abs() * other_BT).sum(1) / other_BT.sum(1),
        "effective_rank": effective_rank(z_BTF[:SVD_ROWS]),
    }


def at(x_BTX: Tensor, position_B: Tensor) -> Tensor:
    """Return each row of `x_BTX` at its own position."""
    return x_BTX[torch.arange(len(position_B), device=x_BTX.device), position_B]


def query_logits(learner: Learner, prompts: PlantedPrompts) -> Tensor:
    """Return the logits [B, V] at the query, with fast weights off."""
    # Nothing is scored: the tokens stand in for targets.
    batch = Batch(prompts.tokens_BT, prompts.tokens_BT, torch.zeros_like(prompts.tokens_BT))
    return at(learner(batch, learner.adapter.initial(), write=False)[0], prompts.query_B).float()


@contextmanager
def nudged(down: nn.Module, step_BD: Tensor, *, at_B: Tensor) -> Iterator[None]:
    """While open, add `step_BD` to the output of `down` at position `at_B` of each row."""

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        # Autograd and other hooks may still hold the module's output: never write into it.
        output = output.clone()
        output[torch.arange(len(at_B), device=output.device), at_B] += step_BD.to(output.dtype)
        return output

    handle = down.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def mean_rows(rows: dict[Any, list[Columns]]) -> list[dict[str, Any]]:
    """Return a row for each key: means over prompts, and standard errors as `..._se`."""
    means = []
    for key, parts in rows.items():
        # Keys of `off` are empty, those of a geometry have two parts, those of a change four.
        row: dict[str, Any] = dict(zip(("layer", "keys", "target", "ratio"), key, strict=False))
        for name in parts[0]:
            values = torch.cat([part[name] for part in parts]).double().cpu().numpy()
            row |= {name: float(values.mean()), f"{name}_se": standard_error(values)}
        means.append(row)
    return means
