"""Evaluation: what a learner scores on each task, in each mode. It only reads.

Shapes: B sequences, T time, V vocabulary, J tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import FastState, Mode
from ttt.adapters.evolving import Evolving
from ttt.config.messages import show
from ttt.devices.collective import over_devices
from ttt.evaluation.rewards import solve, weights
from ttt.learner import Engine, Learner, competing
from ttt.objectives.reward import Reward
from ttt.results.scores import QUANTITIES, Scores
from ttt.strategies.base import Strategy
from ttt.stream import IGNORE, Batch, Stream, spread

# Tokens that are read at once: a bound on memory, without effect on the scores.
TOKENS = 8192

# Pieces of a context in the profile of its loss.
PIECES = 16

# Up to this many tasks all are measured after each; with more, that many rows of R are full.
MANY, FULL_ROWS = 30, 10


@dataclass(frozen=True)
class Plan:
    """Which tasks are measured in which row of R: all J of them after each of P phases costs P x J evaluations.

    Every row holds the task just learned and the one that comes next: learning, forgetting since learning and
    forward transfer stay defined. Every `every`-th row holds the others too, or `old` of those learned before
    (None: all); the first and the last row are full. The base is measured in these rows.
    """

    every: int
    old: int | None
    # Steps between evaluations inside a phase; None: none there.
    anytime: int | None = None
    savings: bool = False
    diagnostics: bool = False

    @classmethod
    def read(cls, config: Mapping[str, Any], *, stream: Stream, strategy: Strategy, is_cut: bool) -> Plan:
        """From the section `eval` of a config; `is_cut`: are parameters cut over devices? Raises ValueError."""
        for argument in ("savings", "diagnostics"):
            if not isinstance(config[argument], bool):
                raise ValueError(f"eval.{argument}={show(config[argument])}: must be true or false")
        anytime, savings = config["anytime"], config["savings"]
        if anytime is not None and (not isinstance(anytime, int) or isinstance(anytime, bool) or anytime < 1):
            raise ValueError(f"eval.anytime={show(anytime)}: must be null or a number of steps, at least 1")
        if savings and anytime is None:
            raise ValueError("eval.savings=true: needs the steps between its evaluations, such as eval.anytime=5")
        if savings and strategy.renews and strategy.acts_at("evaluating"):
            raise ValueError(f"eval.savings=true: strategy={strategy.name} has weights for each task and forgets none")
        if savings and is_cut:
            raise ValueError("eval.savings=true: needs a copy of whole weights; use trainer=ddp or one device")
        longest = max(phase.steps for phase in stream.phases)
        if anytime is not None and anytime >= longest:
            raise ValueError(f"eval.anytime={anytime}: nothing is measured inside tasks of {longest} steps; type fewer")
        plan = cls.of(config["every"], stream=stream, tasks=config["tasks"])
        return replace(plan, anytime=anytime, savings=savings, diagnostics=config["diagnostics"] and not is_cut)

    @classmethod
    def of(cls, every: int | str, *, stream: Stream, tasks: int | str = "all") -> Plan:
        """`auto` is every row up to MANY tasks, else FULL_ROWS of them. Raises ValueError in the user's words."""
        for argument, value, word in (("every", every, "auto"), ("tasks", tasks, "all")):
            is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if value != word and not is_number:
                raise ValueError(f"eval.{argument}={value}: must be {word} or a number of at least 1")
        if every == "auto":
            rows = len(stream.phases)
            every = 1 if len(stream.tasks) <= MANY else -(-rows // FULL_ROWS)
        return cls(int(every), None if tasks == "all" else int(tasks))

    def has_base(self, row: int, *, stream: Stream) -> bool:
        return row % self.every == 0 or row == len(stream.phases)

    def columns(self, row: int, *, stream: Stream) -> list[int]:
        recent = {phase.task for phase in stream.phases[max(row - 1, 0) : row + 1]}
        if row in (0, len(stream.phases)) or (self.old is None and row % self.every == 0):
            return list(range(len(stream.tasks)))
        if self.old is None or row % self.every:
            return sorted(recent)
        before = [j for j, first in enumerate(stream.learned_at) if first <= row and j not in recent]
        return sorted(recent | {before[k] for k in spread(min(self.old, len(before)), over=len(before))})


def modes(engine: Engine) -> tuple[Mode, ...]:
    """`carried` is only measured where the stream carries a state from batch to batch, `archived` where that is a
    prompt. A policy without such prompts is used as it is: there `carried` is `slow`."""
    if engine.learner.adapter.reset == "sequence" and engine.learner.objective.is_plain:
        return ("slow", "fast")
    archived: tuple[Mode, ...] = ("archived",) if isinstance(engine.learner.adapter, Evolving) else ()
    return ("slow", "fast", "carried", *archived)


def reads_base(learner: Learner, mode: Mode) -> bool:
    """With prompts mode `fast` is what they are worth without any learning."""
    return mode == "fast" and isinstance(learner.adapter, Evolving) and isinstance(learner.objective, Reward)


@contextmanager
def starting(engine: Engine, mode: Mode) -> Iterator[Callable[[int | None], FastState]]:
    """While open the slow weights are those of `mode`; gives the state from which a task is read.

    Prompts do not change while they are read. So `fast` is the prompt found so far on the weights of the base, as
    `slow` is the weights learned so far behind the seed prompt; `archived` behind the prompt that was best when the
    task ended, which tells the model what task it is.
    """
    learner, state = engine.learner, engine.learner.adapter.initial()
    if isinstance(learner.adapter, Evolving) and isinstance(learner.objective, Reward):
        prompts = learner.objective.archive
        if mode == "archived":
            holding = learner.adapter.holding
            yield lambda task: holding(prompts[task]) if task in prompts else state
            return
        with weights(learner, learner.objective.base) if reads_base(learner, mode) else nullcontext():
            yield lambda task: state if mode == "slow" else learner.fast
        return
    if mode == "carried":
        state = engine.shared_fast()
    yield lambda task: state


def evaluate(engine: Engine, evaluations: Sequence[Batch], *, tasks: Sequence[int | None] = ()) -> Scores:
    """What `evaluate_along` gives first."""
    return evaluate_along(engine, evaluations, tasks=tasks)[0]


@torch.no_grad()
def evaluate_along(
    engine: Engine, evaluations: Sequence[Batch], *, tasks: Sequence[int | None] = ()
) -> tuple[Scores, list[list[float]] | None]:
    """Score every batch (the eval part of one task each) in every mode; the devices share its rows.

    With fast weights also each batch's loss in mode fast along its context, in PIECES: bits per scored token.

    slow: state initial, writes off. fast: state initial, written while reading each sequence.
    carried: the same from the state that the stream left. Every sequence has its own copy of the state.
    `tasks`: the task of each batch (None: the base), for strategies that are told; none are told where it is empty.
    """
    learner = engine.learner
    learner.eval()
    initial = learner.adapter.initial()
    # Without fast weights there is nothing to write or to carry: every mode is `slow`, done once.
    measured = [mode for mode in modes(engine) if initial or mode == "slow"]
    numbered = list(zip(tasks or [None] * len(evaluations), evaluations, strict=True))
    sums: list[Tensor] = []
    earned: dict[str, list[dict[str, float]]] = {}
    for mode in measured:
        with starting(engine, mode) as state_of:
            for task, batch in numbered:
                # The base is read without what a strategy keeps for the task.
                with learner.strategy.evaluating(task) if tasks and not reads_base(learner, mode) else nullcontext():
                    sums.append(_score(engine, batch, state_of(task), write=mode != "slow", along=bool(initial)))
                    if not learner.objective.is_plain:
                        earned.setdefault(mode, []).append(solve(engine, batch, state_of(task), mode=mode))
    learner.train()
    # [mode and task, part of the sequence, (nats, hits, scored tokens)], over all rows.
    found = over_devices(engine.fabric, torch.stack(sums), op="sum").cpu()
    found = found.unflatten(0, (len(measured), len(evaluations)))
    scores: Scores = {
        mode: summarize(part) | across(earned.get(mode, [])) for mode, part in zip(measured, found, strict=True)
    }
    along = found[measured.index("fast"), :, -PIECES:] if initial else None
    profile = None if along is None else (along[..., 0] / along[..., 2] / math.log(2)).tolist()
    return {mode: scores.get(mode, scores["slow"]) for mode in modes(engine)}, profile


def across(found: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """quantity -> a value for each task."""
    return {quantity: [one[quantity] for one in found] for quantity in (found[0] if found else ())}


def _score(engine: Engine, batch: Batch, state: FastState, *, write: bool, along: bool) -> Tensor:
    """[part of the sequence, (nats, hits, scored tokens)]: sums over this device's rows; with `along` over its PIECES
    too."""
    batch = rows_of(batch, engine.fabric.global_rank, of=engine.fabric.world_size)
    nats, hits = [], []
    rows = max(TOKENS // batch.targets_BT.shape[1], 1)
    for start in range(0, len(batch.tokens_BT), rows):
        part = batch.rows(start, start + rows).to(engine.fabric.device)
        with engine.fabric.autocast():
            logits_BTV, _ = engine.wrapped(part, state, write=write)
        logits_BTV = competing(logits_BTV.float(), part)
        flat = (logits_BTV.flatten(0, 1), part.targets_BT.flatten())
        nats.append(F.cross_entropy(*flat, ignore_index=IGNORE, reduction="none").view_as(part.targets_BT))
        hits.append(logits_BTV.argmax(-1) == part.targets_BT)
    measured = torch.cat(nats).cpu(), torch.cat(hits).cpu(), batch.targets_BT != IGNORE
    return torch.cat([tally(*measured), tally_along(*measured)]) if along else tally(*measured)


def rows_of(batch: Batch, rank: int, *, of: int) -> Batch:
    """This device's rows. All devices read equally many, for they compute together: the last ones may be unscored."""
    if of == 1:
        return batch
    rows = np.arange(rank, -(-len(batch.tokens_BT) // of) * of, of)
    share = batch.pick(np.minimum(rows, len(batch.tokens_BT) - 1))
    share.targets_BT[torch.from_numpy(rows >= len(batch.tokens_BT))] = IGNORE
    return share


def tally(nats_BT: Tensor, hits_BT: Tensor, scored_BT: Tensor) -> Tensor:
    """Sums over the sequence, its first half and its second half."""
    half = nats_BT.shape[1] // 2
    sums = []
    for part in (slice(None), slice(0, half), slice(half, None)):
        scored = scored_BT[:, part]
        sums += [x.double().sum() for x in (nats_BT[:, part][scored], hits_BT[:, part][scored], scored)]
    return torch.stack(sums).view(3, 3)


def tally_along(nats_BT: Tensor, hits_BT: Tensor, scored_BT: Tensor) -> Tensor:
    """The same sums over PIECES of the sequence, one after another, as equal as they can be."""
    length = nats_BT.shape[1]
    sums_T3 = torch.stack([torch.where(scored_BT, x, 0).double().sum(0) for x in (nats_BT, hits_BT, scored_BT)], -1)
    piece_T = torch.arange(length) * PIECES // length
    return sums_T3.new_zeros(PIECES, 3).index_add_(0, piece_T, sums_T3)


def summarize(sums_J33: Tensor) -> dict[str, list[float]]:
    """Bits per scored token and share of hits; NaN where a part has no scored token."""
    numbers = {}
    for part, suffix in enumerate(("", "_early", "_late")):
        nats_J, hits_J, scored_J = sums_J33[:, part].unbind(-1)
        numbers[f"loss{suffix}"] = (nats_J / scored_J / math.log(2)).tolist()
        numbers[f"accuracy{suffix}"] = (hits_J / scored_J).tolist()
    return {quantity: numbers[quantity] for quantity in QUANTITIES}
