"""What a model knew before the stream, and still knows: texts and multiple-choice items.

Texts are scored as tasks are. Of an item, every option is scored behind the prompt:

    accuracy     share of items whose right option has the largest log p
    acc_norm     the same with log p divided by the bytes of the option
    log_p_right  log2 p of the right option, mean over items

(`acc` and `acc_norm` as EleutherAI's lm-evaluation-harness defines them.) It only reads.
Shapes: R rows (one for each option of each item), T time, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ttt.adapters.base import FastState
from ttt.devices.collective import over_devices
from ttt.evaluation.evaluate import device_rows, evaluate, rows_at_once
from ttt.evaluation.modes import modes, starting
from ttt.learner import Engine, scored_logits
from ttt.results.scores import Scores
from ttt.stream import IGNORE, Batch, Ints, Items, KnownSets
from ttt.training.recipe import Recipe


def measure_known(
    engine: Engine, known_sets: KnownSets, *, recipe: Recipe, token_bytes: Ints | None = None
) -> dict[str, Scores]:
    """The scores of each set, with one value in place of one for each task.

    `token_bytes`: the bytes of text of each token [V], see `evaluate_along`.
    """
    # Nothing here has a reward: a policy is read as the language model that it is.
    recipe = recipe if recipe.objective.is_plain else replace(recipe, objective=Recipe().objective)
    results: dict[str, Scores] = {}
    if known_sets.texts:
        texts = list(known_sets.texts.values())
        scores = evaluate(engine, texts, recipe=recipe, tasks=[None] * len(texts), token_bytes=token_bytes)
        for k, name in enumerate(known_sets.texts):
            results[name] = {
                mode: {quantity: [values[k]] for quantity, values in quantities.items()}
                for mode, quantities in scores.items()
            }
    return results | {name: _score_items(engine, items, recipe=recipe) for name, items in known_sets.items.items()}


@torch.no_grad()
def _score_items(engine: Engine, items: Items, *, recipe: Recipe) -> Scores:
    learner = engine.learner
    learner.eval()
    scores: Scores = {}
    for mode in modes(learner, recipe.objective):
        # Without fast weights all modes are the same: read once.
        if scores and not learner.adapter.initial():
            scores[mode] = scores["slow"]
            continue
        with starting(engine, recipe.objective, mode) as state_of, recipe.strategy.evaluating(None):
            log_p_R = option_log_p(engine, items.rows, state_of(None), write=mode != "slow")
        scores[mode] = scores_of_items(log_p_R, items)
    learner.train()
    return scores


def option_log_p(engine: Engine, rows: Batch, state: FastState, *, write: bool) -> Tensor:
    """log2 p of the scored tokens of each row [R]; the devices share the rows."""
    rank, of = engine.fabric.global_rank, engine.fabric.world_size
    # Rows of like length are read together, so that little padding is.
    order_R = (rows.segment_BT >= 0).sum(1).argsort(stable=True)
    share = device_rows(rows.pick(order_R.numpy()), rank, of=of)
    step = rows_at_once(engine.learner.model, share, leaves_out=engine.learner.leaves_out)
    parts = (_trimmed(share.rows(start, start + step)) for start in range(0, len(share.tokens_BT), step))
    log_p = torch.cat([_log_p(engine, part, state, write=write) for part in parts])
    dealt_R = log_p.new_zeros(len(log_p) * of)
    dealt_R[rank::of] = log_p
    log_p_R = log_p.new_empty(len(order_R))
    log_p_R[order_R] = over_devices(engine.fabric, dealt_R, op="sum").cpu()[: len(order_R)]
    return log_p_R


def _trimmed(rows: Batch) -> Batch:
    """Leave out the padding that all rows share."""
    length = int((rows.segment_BT >= 0).sum(1).max())
    return Batch(rows.tokens_BT[:, :length], rows.targets_BT[:, :length], rows.segment_BT[:, :length])


def _log_p(engine: Engine, rows: Batch, state: FastState, *, write: bool) -> Tensor:
    rows = rows.to(engine.fabric.device)
    with engine.fabric.autocast():
        logits, _ = engine.wrapped(rows, state, write=write, scored=True)
    scored_BT = rows.targets_BT != IGNORE
    log_p_NV = scored_logits(logits, rows).float().log_softmax(-1)
    nats_N = log_p_NV.gather(-1, rows.targets_BT[scored_BT][:, None])[:, 0].cpu().double()
    row_N = scored_BT.nonzero()[:, 0].cpu()
    return nats_N.new_zeros(len(scored_BT)).index_add_(0, row_N, nats_N).div(math.log(2))


def scores_of_items(log_p_R: Tensor, items: Items) -> dict[str, list[float]]:
    """What the log-probabilities of all options say about the items."""
    sums, norms = (x.split(list(items.options)) for x in (log_p_R, log_p_R / items.bytes_R))
    right = [float(options[answer]) for options, answer in zip(sums, items.answers, strict=True)]
    return {
        "accuracy": [_share_right(sums, items.answers)],
        "acc_norm": [_share_right(norms, items.answers)],
        "log_p_right": [math.fsum(right) / len(right)],
    }


def _share_right(options: Sequence[Tensor], answers: Sequence[int]) -> float:
    hits = [int(scores.argmax()) == answer for scores, answer in zip(options, answers, strict=True)]
    return sum(hits) / len(hits)
