"""Scores continuations and writes answers; each row has fast weights of its own, empty at first.

Shapes: B rows, T time, V vocabulary, N scored positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.learner import Learner, Sampling
from ttt.learner.losses import scored_logits
from ttt.learner.reader import Reader
from ttt.models.cache import PADDING
from ttt.stream import IGNORE, Batch

Tokens = tuple[int, ...]


class Continuation(NamedTuple):
    """What is scored: `tokens` behind a context."""

    context: Tokens
    tokens: Tokens

    @property
    def read(self) -> Tokens:
        """What must be read to score it: nothing follows the last token."""
        return (self.context + self.tokens)[:-1]


class Likelihood(NamedTuple):
    """The log-likelihood of a continuation in nats, and whether the likeliest tokens form it."""

    nats: float
    is_greedy: bool


@dataclass(frozen=True)
class Respondent:
    """A learner that answers. `write`: fast weights are written while it reads (mode fast).

    `half`: read in bf16 as training with trainer.precision=bf16-mixed does; `rows`: at once.
    """

    learner: Learner
    write: bool
    half: bool = False
    rows: int = 1

    @torch.no_grad()
    def score(self, wanted: Sequence[Continuation], *, progress: Callable[[int], None]) -> list[Likelihood]:
        """The score of each continuation; those that are read alike are read once."""
        by_row: dict[Tokens, list[int]] = {}
        for i, continuation in enumerate(wanted):
            by_row.setdefault(continuation.read, []).append(i)
        scores: dict[int, Likelihood] = {}
        # The longest first: rows of about one length are read side by side.
        ordered = sorted(by_row, key=len, reverse=True)
        for first in range(0, len(ordered), self.rows):
            rows = ordered[first : first + self.rows]
            counts = [max(len(wanted[i].tokens) for i in by_row[row]) for row in rows]
            for row, logits_NV in zip(rows, self._logits(rows, counts), strict=True):
                scores |= {i: _likelihood(logits_NV, wanted[i].tokens) for i in by_row[row]}
            progress(len(scores))
        return [scores[i] for i in range(len(wanted))]

    @torch.no_grad()
    def answer(
        self, prompts: Sequence[Tokens], *, tokens: int, ends: Callable[[Sequence[int]], bool], sampling: Sampling,
        generator: torch.Generator,
    ) -> list[list[int]]:  # fmt: skip
        """At most `tokens` tokens behind each prompt, until `ends` holds for what was written.

        The reader reads what it writes, so fast weights go on learning.
        """
        reader = Reader(self.learner, write=self.write)
        next_BT, segment_BT = self._left_padded(prompts)
        written: list[list[int]] = [[] for _ in prompts]
        has_ended = [False] * len(prompts)
        for _ in range(tokens):
            with self._autocast():
                logits_B1V = reader.read(next_BT, segment_BT=segment_BT, last=True)
            next_B = sampling.pick(logits_B1V[:, -1].float(), generator)
            for i, token in enumerate(next_B.tolist()):
                if not has_ended[i]:
                    written[i].append(token)
                    has_ended[i] = ends(written[i])
            if all(has_ended):
                break
            # A row that has ended reads padding, which changes nothing.
            next_BT = next_B[:, None]
            segment_BT = torch.tensor([[PADDING if x else 0] for x in has_ended], device=self._device)
        return written

    def _logits(self, rows: Sequence[Tokens], counts: Sequence[int]) -> Iterator[Tensor]:
        """Logits [N, V] of the last `counts` positions of each row."""
        # Padding on the right: the chunks of a row begin where they do without other rows.
        tokens_BT = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        targets_BT = torch.full_like(tokens_BT, IGNORE)
        for i, (row, count) in enumerate(zip(rows, counts, strict=True)):
            tokens_BT[i, : len(row)] = torch.tensor(row)
            # Only says where logits are wanted.
            targets_BT[i, len(row) - count : len(row)] = 0
        batch = Batch(tokens_BT, targets_BT, torch.zeros_like(tokens_BT)).to(self._device)
        with self._autocast():
            logits, _ = self.learner(batch, self.learner.adapter.initial(), write=self.write, scored=True)
        return iter(scored_logits(logits, batch).split(list(counts)))

    def _left_padded(self, prompts: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """Tokens and segments [B, T] of prompts that end together."""
        most = max(map(len, prompts))
        rows = [F.pad(torch.tensor(prompt), (most - len(prompt), 0)) for prompt in prompts]
        marks = [[PADDING] * (most - len(prompt)) + [0] * len(prompt) for prompt in prompts]
        return torch.stack(rows).to(self._device), torch.tensor(marks, device=self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.learner.parameters()).device

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.half)


def sampling_of(settings: Mapping[str, Any]) -> Sampling:
    """How a task's generation_kwargs draw: greedily, unless they say do_sample=true."""
    # A temperature alone means that it is drawn with.
    draws = settings.get("do_sample", settings.get("temperature"))
    temperature = float(settings.get("temperature", 1.0)) if draws else 0.0
    if temperature == 0:
        return Sampling()
    return Sampling(temperature=temperature, top_k=settings.get("top_k"), top_p=settings.get("top_p"))


def _likelihood(logits_NV: Tensor, tokens: Tokens) -> Likelihood:
    # Rows that are read alike may be scored from different positions on.
    p_NV = logits_NV[len(logits_NV) - len(tokens) :].float().log_softmax(-1)
    token_N = torch.tensor(tokens, device=p_NV.device)
    nats = p_NV.gather(1, token_N[:, None]).sum()
    return Likelihood(float(nats), bool((p_NV.argmax(-1) == token_N).all()))
