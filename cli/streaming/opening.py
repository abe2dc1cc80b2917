"""What `ttt-stream` reads with: the learner of a run, or of overrides as `ttt-run` takes them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ttt.adapters.base import FastState, shared
from ttt.cli.probes.overrides import composed
from ttt.cli.streaming.arguments import is_several
from ttt.learner import Learner, Sampling, slow_hash
from ttt.run.open import open_run
from ttt.serving.checks import check_writes
from ttt.serving.coder import ByteCoder, Coder, TextPlace, coder_of
from ttt.serving.readers import AfterRound, Readers, Storage
from ttt.serving.rules import ReadingRules
from ttt.serving.state_file import Owner
from ttt.serving.upkeep import Upkeep
from ttt.stream import Source

Start = Literal["initial", "carried"]


@dataclass(frozen=True)
class Opened:
    """A learner that can read text. `weights` says in words which slow weights it has."""

    learner: Learner
    source: Source
    owner: Owner
    new_coder: Callable[[TextPlace], Coder]
    weights: str

    def sessions(
        self, rules: ReadingRules, *, start: Start, storage: Storage, after_round: AfterRound = lambda events: None
    ) -> Readers:
        """Sessions of this learner. Raises ValueError where memory would grow with their texts."""
        return Readers(
            self.learner, new_coder=self.new_coder, owner=self.owner, rules=rules, start=self.start(start),
            storage=storage, after_round=after_round,
        )  # fmt: skip

    def start(self, word: Start) -> FastState:
        """The fast weights that a session begins with: empty, or what the run's stream left."""
        return self.learner.adapter.initial() if word == "initial" else shared(self.learner.fast)

    def token(self, text: str) -> int:
        """The token that this text is. Raises ValueError where it is several, or none."""
        coder = self.new_coder(TextPlace())
        tokens = [int(token) for piece in (*coder.feed(text.encode()), *coder.close()) for token in piece.tokens]
        if len(tokens) != 1:
            raise ValueError(f"{text!r}: is {len(tokens)} tokens of this model; must be one")
        return tokens[0]

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text; what is no UTF-8 becomes U+FFFD."""
        if self.new_coder is ByteCoder:
            return bytes(tokens).decode(errors="replace")
        return self.source.show(np.asarray(tokens))


def rules_of(typed: argparse.Namespace) -> ReadingRules:
    upkeep = Upkeep(decay=typed.decay, max_norm=typed.max_norm, reset=typed.reset_tokens)
    lanes = typed.lanes if is_several(typed) else 1
    return ReadingRules(block=typed.block, window=typed.window, lanes=lanes, plain=not typed.no_control, upkeep=upkeep)


def sampling_of(typed: argparse.Namespace, opened: Opened) -> Sampling:
    """How `--say` draws. Raises ValueError for a stop that is no token."""
    try:
        stop = () if typed.stop is None else (opened.token(typed.stop),)
    except ValueError as error:
        raise ValueError(f"--stop {error}") from error
    return Sampling(typed.temperature, typed.top_k, typed.top_p, stop, typed.seed)


def open_reading(run: Path | None, words: Sequence[str], *, context: int | None, config_dir: Path | None) -> Opened:
    """Open a run's folder, or what the override `words` name where there is none.

    `context`: tokens that attention sees. Raises ValueError in the user's words.
    """
    try:
        return _of_words(words, context, config_dir) if run is None else _of_run(run, context, config_dir)
    except ValueError as error:
        hint = f"--context {context}: " if context is not None and "model.window" in str(error) else ""
        raise ValueError(f"{hint}{error}") from error


def _of_run(path: Path, context: int | None, config_dir: Path | None) -> Opened:
    trusted = [config_dir] if config_dir else []
    sys.path.extend(str(folder) for folder in trusted if str(folder) not in sys.path)
    run = open_run(path, trusted=trusted, window=context)
    return _opened(run.learner, run.source, run.config, name=str(path), weights=f"after task {run.learned}")


def _of_words(words: Sequence[str], context: int | None, config_dir: Path | None) -> Opened:
    bounded = [*words, f"model.window={context}"] if context is not None else words
    run = composed(bounded, config_dir=config_dir)
    return _opened(run.assembly.learner, run.assembly.source, run.config, name=" ".join(words), weights=run.weights)


def _opened(learner: Learner, source: Source, config: Mapping[str, Any], *, name: str, weights: str) -> Opened:
    # Before the weights are hashed, which takes a second for a large model.
    adapter = config["adapter"]
    check_writes(learner, adapter)
    owner = Owner(name, config["model"]["name"], adapter["name"], adapter, slow_hash(learner.model))
    return Opened(learner, source, owner, coder_of(source), weights)
