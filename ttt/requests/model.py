"""A run as one of lm-eval's models. Imported only where lm-eval is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from ttt.learner import Sampling
from ttt.requests.codec import Codec
from ttt.requests.respondent import Continuation, Respondent, sampling_of

# What lm-eval calls the most tokens of an answer; the first that is there counts.
MOST = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Tokens of an answer where a task says nothing, as in lm-eval's own models.
TOKENS = 256
GENERATION = {*MOST, "until", "do_sample", "temperature", "top_k", "top_p"}


class RunModel(TemplateLM):  # type: ignore[misc]
    """Answers lm-eval's requests; each finds the fast weights empty.

    `positions`: the most tokens that the model can read (None: any number). `seed` decides what is
    drawn where a task draws its answers. Raises ValueError for a request that is too long.
    """

    def __init__(
        self, respondent: Respondent, codec: Codec, *, positions: int | None, seed: int, progress: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._respondent, self._codec, self._positions = respondent, codec, positions
        self._generator = torch.Generator().manual_seed(seed)
        self._progress = progress
        # Tokens of all requests, and how many requests there were.
        self.tokens = self.requests = 0

    @property
    def eot_token_id(self) -> int:
        return self._codec.prefix

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        return self._codec.encode(string, special=add_special_tokens)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        wanted = [Continuation(tuple(context), tuple(tokens)) for _, context, tokens in requests]
        for continuation in wanted:
            self._take(len(continuation.read))

        def progress(count: int) -> None:
            self._progress(f"{count} of {len(wanted)} log-likelihoods")

        return [(x.nats, x.is_greedy) for x in self._respondent.score(wanted, progress=progress)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, in windows where a text is longer than the model."""
        windows: list[tuple[Any, list[int], list[int]]] = []
        owners: list[int] = []
        for i, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0])
            pairs = get_rolling_token_windows(
                token_list=tokens, prefix_token=self.prefix_token_id, context_len=1,
                max_seq_len=self._positions or max(len(tokens), 1),
            )  # fmt: skip
            parts = [(None, *make_disjoint_window(pair)) for pair in pairs]
            windows += parts
            owners += [i] * len(parts)
        nats = [0.0] * len(requests)
        for i, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            nats[i] += value
        return nats

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        answers: dict[int, str] = {}
        for settings, numbers in _alike([request.args[1] for request in requests]):
            self._check_settings(settings)
            most = int(next((settings[key] for key in MOST if settings.get(key) is not None), TOKENS))
            prompts = {i: tuple(self.tok_encode(requests[i].args[0])) for i in numbers}
            for prompt in prompts.values():
                self._take(len(prompt) + most)
            # The longest first, so that rows of about one length are read side by side.
            ordered = sorted(prompts, key=lambda i: -len(prompts[i]))
            for first in range(0, len(ordered), self._respondent.rows):
                part = ordered[first : first + self._respondent.rows]
                texts = self._written([prompts[i] for i in part], settings, most=most)
                answers |= dict(zip(part, texts, strict=True))
                self._progress(f"{len(answers)} of {len(requests)} answers")
        return [answers[i] for i in range(len(requests))]

    def _written(self, prompts: Sequence[tuple[int, ...]], settings: Mapping[str, Any], *, most: int) -> list[str]:
        until = settings.get("until") or []
        stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop]

        def ends(tokens: Sequence[int]) -> bool:
            return tokens[-1] in self._codec.ends or any(stop in self._codec.decode(tokens) for stop in stops)

        sampling: Sampling = sampling_of(settings)
        rows = self._respondent.answer(prompts, tokens=most, ends=ends, sampling=sampling, generator=self._generator)
        return [postprocess_generated_text(self._codec.decode(row), stops, None) for row in rows]

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        odd = sorted(set(settings) - GENERATION)
        if odd:
            raise ValueError(f"generation_kwargs.{odd[0]}: no answers are written so; allowed: {', '.join(GENERATION)}")

    def _take(self, tokens: int) -> None:
        """Count a request, and check its length before anything is read."""
        if self._positions is not None and tokens > self._positions:
            raise ValueError(
                f"a request takes {tokens:,} tokens, and the model has {self._positions:,} positions; use shorter "
                """contexts, for RULER --metadata '{"max_seq_lengths": [N]}', or fewer --shots"""
            )
        self.requests, self.tokens = self.requests + 1, self.tokens + tokens


def _alike(settings: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], list[int]]]:
    """Settings that are equal, with the numbers of their requests."""
    groups: list[tuple[Mapping[str, Any], list[int]]] = []
    for i, section in enumerate(settings):
        for other, numbers in groups:
            if other == section:
                numbers.append(i)
                break
        else:
            groups.append((section, [i]))
    return groups
