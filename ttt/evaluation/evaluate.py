"""Evaluation: what a learner scores on each task, in each mode. It only reads.

Shapes: B sequences, T time, V vocabulary, J tasks; S, the sums over a part of a sequence: nats,
hits, scored tokens and, where tokens are text but not bytes, the bytes that they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import FastState
from ttt.devices.collective import over_devices
from ttt.evaluation.exact import tally_exact, with_exact
from ttt.evaluation.modes import modes, reads_base, starting
from ttt.evaluation.rewards import solve_rewards
from ttt.evaluation.tally import bits_along, exact_answers, shares, tally, tally_along
from ttt.learner import Engine, scored_logits, scored_targets
from ttt.objectives.reward import Reward
from ttt.results.scores import Scores
from ttt.stream import IGNORE, Batch, Ints
from ttt.training.recipe import Recipe

# Tokens that are read at once, and numbers in their logits (256 MiB): bounds on memory, without
# effect on the scores.
TOKENS, LOGITS = 8192, 1 << 26


def evaluate(
    engine: Engine,
    evaluations: Sequence[Batch],
    *,
    recipe: Recipe,
    tasks: Sequence[int | None] = (),
    token_bytes: Ints | None = None,
    answers: bool = False,
    exact: bool = False,
) -> Scores:
    """The scores that `evaluate_along` returns, without the profile."""
    return evaluate_along(
        engine, evaluations, recipe=recipe, tasks=tasks, token_bytes=token_bytes, answers=answers, exact=exact
    )[0]


@torch.no_grad()
def evaluate_along(
    engine: Engine,
    evaluations: Sequence[Batch],
    *,
    recipe: Recipe,
    tasks: Sequence[int | None] = (),
    token_bytes: Ints | None = None,
    answers: bool = False,
    exact: bool = False,
) -> tuple[Scores, list[list[float]] | None]:
    """Score every batch (the eval part of one task each) in every mode; the devices share its rows.

    With fast weights, also return each batch's loss in mode fast along its context, in PIECES: bits
    per scored token. Every sequence has its own copy of the state from which it is read.
    `tasks`: the task of each batch (None: the base), for strategies that are told which one it is;
    where it is empty none are told. `token_bytes`: the bytes of text of each token [V]; with them
    the loss per byte is a score too, unless every token is a byte. `answers`: so is the share of
    answers without a miss; `exact`: so is that of rows whose answers the learner writes by itself.
    """
    learner, objective = engine.learner.eval(), recipe.objective
    initial, wanted = learner.adapter.initial(), modes(learner, objective)
    # Without fast weights there is nothing to write or to carry: every mode is `slow`, done once.
    measured = [mode for mode in wanted if initial or mode == "slow"]
    score = partial(_score, engine, along=bool(initial), bytes_V=_text_bytes(token_bytes), answers=answers, exact=exact)
    sums: list[Tensor] = []
    earned: dict[str, list[dict[str, float]]] = {}
    for mode in measured:
        with starting(engine, objective, mode) as state_of:
            for task, batch in zip(tasks or [None] * len(evaluations), evaluations, strict=True):
                # The base is read without what a strategy keeps for the task.
                is_told = bool(tasks) and not reads_base(learner, objective, mode)
                with recipe.strategy.evaluating(task) if is_told else nullcontext():
                    sums.append(score(batch, state_of(task), write=mode != "slow"))
                    if isinstance(objective, Reward):
                        reward = solve_rewards(engine, objective, batch, state_of(task), mode=mode)
                        earned.setdefault(mode, []).append(reward)
    learner.train()
    # [mode, task, part of the sequence, S], over all rows.
    totals = over_devices(engine.fabric, torch.stack(sums), op="sum").cpu().unflatten(0, (len(measured), -1))
    scores: Scores = {
        mode: shares(part, answers=answers, exact=exact) | by_quantity(earned.get(mode, []))
        for mode, part in zip(measured, totals, strict=True)
    }
    along = bits_along(totals[measured.index("fast")]) if initial else None
    return {mode: scores.get(mode, scores["slow"]) for mode in wanted}, along


def _text_bytes(token_bytes: Ints | None) -> Tensor | None:
    """The bytes of each token [V], None where there are none to count."""
    # Of bytes the loss per byte is the loss.
    return None if token_bytes is None or (token_bytes == 1).all() else torch.from_numpy(token_bytes)


def by_quantity(tasks: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """quantity -> a value for each task, from a mapping for each task."""
    return {quantity: [task[quantity] for task in tasks] for quantity in (tasks[0] if tasks else ())}


def _score(
    engine: Engine,
    batch: Batch,
    state: FastState,
    *,
    write: bool,
    along: bool,
    bytes_V: Tensor | None,
    answers: bool,
    exact: bool,
) -> Tensor:
    """Sums over this device's rows: [part of the sequence, S].

    With `along`, the PIECES of the context follow the parts.
    """
    batch = device_rows(batch, engine.fabric.global_rank, of=engine.fabric.world_size)
    nats, hits = [], []
    rows = rows_at_once(engine.learner.model, batch, leaves_out=engine.learner.leaves_out)
    for start in range(0, len(batch.tokens_BT), rows):
        part = batch.rows(start, start + rows).to(engine.fabric.device)
        with engine.fabric.autocast():
            logits, _ = engine.wrapped(part, state, write=write, scored=True)
        logits_NV, target_N = scored_logits(logits, part).float(), scored_targets(part)
        nats.append(F.cross_entropy(logits_NV, target_N, reduction="none").cpu())
        hits.append((logits_NV.argmax(-1) == target_N).cpu())
    scored_BT = batch.targets_BT != IGNORE
    measured = [_at(scored_BT, torch.cat(x)) for x in (nats, hits)] + [scored_BT]
    if bytes_V is not None:
        measured.append(bytes_V[batch.targets_BT.clamp(min=0)])
    if answers:
        measured += exact_answers(measured[1], scored_BT)
    sums = torch.cat([tally(*measured), tally_along(*measured)]) if along else tally(*measured)
    return with_exact(sums, tally_exact(engine, batch, state, write=write)) if exact else sums


def _at(scored_BT: Tensor, values_N: Tensor) -> Tensor:
    """The values of scored positions at their places, zero elsewhere: [B, T]."""
    values_BT = values_N.new_zeros(scored_BT.shape)
    values_BT[scored_BT] = values_N
    return values_BT


def rows_at_once(model: nn.Module, batch: Batch, *, leaves_out: bool = False) -> int:
    """How many rows of a batch are read at once, by TOKENS and LOGITS.

    `leaves_out`: have only scored positions logits?
    """
    length = batch.targets_BT.shape[1]
    rows = TOKENS // length
    embeddings: Any = getattr(model, "get_input_embeddings", None)
    if embeddings is not None:
        with_logits = int((batch.targets_BT != IGNORE).sum(1).max()) if leaves_out else length
        # The vocabulary of the model, which may hold more tokens than the source.
        rows = min(rows, LOGITS // embeddings().num_embeddings // max(with_logits, 1))
    return max(rows, 1)


def device_rows(batch: Batch, rank: int, *, of: int) -> Batch:
    """The rows that one of several devices scores.

    All devices must read equally many, because they compute together; rows that repeat are
    unscored.
    """
    if of == 1:
        return batch
    rows = np.arange(rank, -(-len(batch.tokens_BT) // of) * of, of)
    share = batch.pick(np.minimum(rows, len(batch.tokens_BT) - 1))
    share.targets_BT[torch.from_numpy(rows >= len(batch.tokens_BT))] = IGNORE
    return share
