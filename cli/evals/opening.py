"""What `ttt-eval` asks: the learner of a run, or of overrides, with the tokens of its texts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ttt.cli.probes.overrides import composed
from ttt.learner import Learner, slow_hash
from ttt.requests.codec import Codec, codec_of
from ttt.requests.respondent import Respondent
from ttt.requests.suite import Suite
from ttt.run.open import open_run
from ttt.serving.checks import check_writes
from ttt.serving.state_file import Owner
from ttt.stream import Source


class EvalSubject(NamedTuple):
    """`weights` says in words which slow weights answer; `positions`: None means any number."""

    learner: Learner
    codec: Codec
    owner: Owner
    weights: str
    positions: int | None
    precision: str


def open_subject(run: Path | None, words: Sequence[str], *, config_dir: Path | None) -> EvalSubject:
    """Open a run's folder, or what the override `words` name where there is none.

    Raises ValueError in the user's words.
    """
    if run is None:
        made_of = composed(words, config_dir=config_dir)
        parts = made_of.assembly
        return _subject(parts.learner, parts.source, parts.config, name=" ".join(words), weights=made_of.weights)
    trusted = [config_dir] if config_dir else []
    sys.path.extend(str(folder) for folder in trusted if str(folder) not in sys.path)
    opened = open_run(run, trusted=trusted)
    weights = f"after task {opened.learned}"
    return _subject(opened.learner, opened.source, opened.config, name=str(run), weights=weights)


def _subject(learner: Learner, source: Source, config: Mapping[str, Any], *, name: str, weights: str) -> EvalSubject:
    check_writes(learner, config["adapter"])
    lm: Any = getattr(learner.model, "lm", None)
    ends = getattr(getattr(lm, "generation_config", None), "eos_token_id", None)
    codec = codec_of(source, config, ends=[ends] if isinstance(ends, int) else ends or [])
    adapter = config["adapter"]
    owner = Owner(name, config["model"]["name"], adapter["name"], adapter, slow_hash(learner.model))
    positions = getattr(getattr(lm, "config", None), "max_position_embeddings", None)
    return EvalSubject(learner.eval(), codec, owner, weights, positions, config["trainer"]["precision"])


def respondent_of(subject: EvalSubject, *, mode: str | None, rows: int) -> Respondent:
    """What answers, in a mode; by default it writes where the adapter has fast weights."""
    has_state = bool(subject.learner.adapter.initial())
    if mode == "fast" and not has_state:
        raise ValueError(f"--mode fast: adapter={subject.owner.adapter} writes nothing; use --mode slow")
    write = has_state if mode is None else mode == "fast"
    return Respondent(subject.learner, write, subject.precision == "bf16-mixed", rows)


def suite_of(typed: argparse.Namespace, *, tokenizer: Path) -> Suite:
    """The tasks that were typed; `tokenizer`: a folder by which they measure their texts."""
    metadata = {"tokenizer": str(tokenizer)} | typed.metadata
    return Suite(typed.tasks, typed.limit, typed.shots, typed.include_path, metadata, typed.seed)
