"""Does a token move scores or states that come before it? Tokens are flipped, and what must not
move is compared.

    score before update         the score of token t does not depend on token t
    state from earlier tokens   nor on later tokens, on other rows, or on what lies under padding
    single pass                 a reading knows of no earlier one, nor its first score of the end
    state reset                 fast weights end with their lifetime, and with their documents

A learner is used as evaluations use it: what its model, adapter and state are does not matter.
Shapes: R rows (lanes), T time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from ttt.adapters.base import Mode, shared
from ttt.adapters.evolving import Evolving
from ttt.learner import Learner
from ttt.probes.checks import Check, Condition, ModeProbe
from ttt.probes.flips import Flip, Passage, Reading, Start, places, vocab_of
from ttt.probes.untouched import untouched

CONDITIONS: tuple[Condition, ...] = get_args(Condition)
# A bound on time: tokens that are read times parameters, about half a minute of one thread.
WORK = 1e12
# Bounds on memory: tokens, and scores, that are read at once.
TOKENS, SCORES = 8192, 50_000_000
# Rows of one reading in a run's own probe; and how many rows the rest of a mode takes in the other.
BRIEF_ROWS, OTHER_ROWS, MOST_ROWS = 6, 30, 32


@dataclass(frozen=True)
class ProbeSizes:
    """How much is read.

    `length`: of sequences; `places`: where they are flipped; `rows`: how many flips are read at
    once; `is_brief`: only the last mode, each place once, without other layouts.
    """

    length: int
    places: int
    rows: int
    is_brief: bool = False

    @classmethod
    def brief(cls, *, length: int, chunk: int | None) -> ProbeSizes:
        """What a run reads to say something about itself: six flips in one short sequence."""
        return cls(min(length, shortest(chunk)), BRIEF_ROWS, BRIEF_ROWS, is_brief=True)

    @classmethod
    def within(cls, learner: Learner, *, length: int, chunk: int | None, places: int | None = None) -> ProbeSizes:
        """All places of the sequences, or as much as WORK allows; `places`: this many, whatever."""
        parameters = sum(parameter.numel() for parameter in learner.parameters())
        # What each mode may read.
        # A pass costs about one multiplication per parameter and token.
        tokens = int(WORK / parameters / len(modes_of(learner)))
        length = min(length, max(tokens // (2 * OTHER_ROWS), shortest(chunk)))
        # The bounds are memory for tokens, memory for
        # logits, an eighth of the work, and a fixed number.
        rows = min(TOKENS // length, SCORES // (length * vocab_of(learner)), tokens // (8 * length), MOST_ROWS)
        affordable = max((tokens // length - OTHER_ROWS) // 2, BRIEF_ROWS)
        return cls(length, min(places or affordable, length), max(rows, 2))


def shortest(chunk: int | None) -> int:
    """A length that has the border of a chunk in it, and tokens that read what it wrote."""
    return 32 if chunk is None else chunk + max(chunk // 4, 8)


@dataclass(frozen=True)
class Verdict:
    """What all checks say.

    `profiles`: mode -> the largest change at each distance -T .. T from one flipped token;
    `writes_move`: the largest change of a score by writes (None: there is no fast state);
    `flips`: how many were read in each mode.
    """

    reset: str
    checks: Sequence[Check]
    profiles: Mapping[Mode, list[float]]
    writes_move: float | None
    flips: int

    @property
    def leaks(self) -> list[Check]:
        return [check for check in self.checks if check.leaks]

    def line(self) -> str:
        """The conditions that hold; and the largest leak of each that does not."""
        words = []
        for condition in CONDITIONS:
            worst = max((x for x in self.leaks if x.condition == condition), key=lambda x: x.size, default=None)
            holds = condition if condition != "state reset" else f"reset={self.reset}"
            words.append(holds if worst is None else f"NOT {condition} ({worst.where} moves by {worst.size:.1g})")
        return ", ".join(words[:-1] if self.writes_move is None else words)


def unprobed(learner: Learner, token_RT: Tensor) -> str | None:
    """Why there is nothing to flip, if that is so."""
    if isinstance(learner.adapter, Evolving):
        return "its fast weights are prompts, which are not written while reading"
    return "its positions are vectors, not tokens" if token_RT.is_floating_point() else None


@torch.no_grad()
def probe_causality(learner: Learner, token_RT: Tensor, *, chunk: int | None, sizes: ProbeSizes) -> Verdict:
    """Flip tokens of these sequences in every mode. `chunk`: the adapter's, to flip at its borders.

    The learner stays as it is. Raises ValueError where scores are not finite.
    """
    token_RT = token_RT[:, : sizes.length].to(next(learner.parameters()).device)
    kinds = (True,) if sizes.is_brief else (False, True)
    at = places(token_RT.shape[1], chunk=chunk, count=sizes.places)
    flips = [Flip(place, onward) for place in at for onward in kinds]
    checks: list[Check] = []
    profiles: dict[Mode, list[float]] = {}
    with untouched(learner):
        starts = _starts(learner, token_RT)
        for start in starts[-1:] if sizes.is_brief else starts:
            probe = ModeProbe(learner, start, token_RT, rows=sizes.rows)
            checks += probe.order(flips)
            checks += [] if sizes.is_brief else probe.layouts(chunk)
            checks += probe.lifetimes()
            profiles[start.mode] = probe.profile
        writes = _moved_by_writes(learner, starts, token_RT) if len(starts) > 1 else None
    return Verdict(learner.adapter.reset, checks, profiles, writes, len(flips))


def modes_of(learner: Learner) -> tuple[Mode, ...]:
    """The modes in which a learner whose fast weights are written while reading is evaluated."""
    if not learner.adapter.initial():
        return ("slow",)
    return ("slow", "fast") if learner.adapter.reset == "sequence" else ("slow", "fast", "carried")


def _starts(learner: Learner, token_RT: Tensor) -> list[Start]:
    """How each mode reads; `carried` starts from what the stream left, or else from a reading."""
    initial, wanted = learner.adapter.initial(), modes_of(learner)
    starts = [Start(mode, initial, write=mode == "fast") for mode in wanted if mode != "carried"]
    if "carried" in wanted:
        left = learner.fast
        if not any(bool(x.any()) for x in left.values()):
            # An untrained run has carried nothing yet: what a reading leaves stands in for it.
            left = learner.adapter.carry(Reading(learner, starts[-1], Passage.of(token_RT)).after)
        starts.append(Start("carried", shared(left), write=True))
    return starts


def _moved_by_writes(learner: Learner, starts: Sequence[Start], token_RT: Tensor) -> float:
    """The largest change of a score between the first mode, without writes, and the others."""
    slow, *others = (Reading(learner, start, Passage.of(token_RT)) for start in starts)
    return max(float(slow.change(other.logits_RTV).max()) for other in others)
