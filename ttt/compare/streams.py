"""Which runs saw one stream: a table compares runs of one stream, and several streams get several
tables.

Runs with equal seeds of one stream have equal fingerprints of their tasks, unless their tokenizers
differ.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ttt.compare.runs import Run
from ttt.compare.tokens import tokenizers
from ttt.config.messages import show

# What decides about a stream is in these sections of a config.
SECTIONS = ("task", "source", "base")


@dataclass(frozen=True)
class StreamRuns:
    """Runs of one stream; `conditions`: what --where takes to pick them, if anything does."""

    name: str
    runs: Sequence[Run]
    conditions: Sequence[str]

    @property
    def where(self) -> str:
        """How to pick this stream alone, as typed; empty where no config key does."""
        return f"--where {shlex.join(self.conditions)}" if self.conditions else ""


@dataclass
class _Stream:
    """A stream that is being put together; `prints`: seed and tokenizer -> fingerprints."""

    runs: list[Run] = field(default_factory=list)
    prints: dict[tuple[Any, ...], Any] = field(default_factory=dict)


def by_stream(runs: Sequence[Run]) -> list[StreamRuns]:
    """Sort runs into streams, in the order of their names."""
    streams: dict[tuple[str, ...], list[_Stream]] = {}
    for alike in _by_settings(runs):
        _add(alike, to=streams.setdefault(stream_kind(alike[0]), []))
    named = [(kind, stream) for kind in sorted(streams) for stream in streams[kind]]
    return [
        StreamRuns(_name(kind, stream, streams[kind]), stream.runs, conditions(stream.runs, runs))
        for kind, stream in named
    ]


def stream_kind(run: Run) -> tuple[str, ...]:
    """What streams are called by: task, source, scenario and number of tasks."""
    task, source = (str(run.config.get(f"{section}.name", "")) for section in ("task", "source"))
    count = len(run.results.tasks)
    return task, source, f"{run.results.scenario}-incremental", f"{count} {'task' if count == 1 else 'tasks'}"


def conditions(runs: Sequence[Run], every: Sequence[Run]) -> list[str]:
    """As few KEY=VALUE as pick `runs` out of `every`; none where these do not suffice."""
    folders = {run.folder for run in runs}
    others = [run for run in every if run.folder not in folders]
    if not others:
        return []
    settings = _settings(runs[0])
    alike = {key: value for key, value in settings.items() if _is_plain(value) and _share(runs, key, value)}
    picked = []
    while others and alike:
        left = {key: [run for run in others if show(run.config.get(key, "")) == value] for key, value in alike.items()}
        # The search is greedy: it takes the key that leaves
        # the fewest others, a name before any other key.
        key = min(left, key=lambda key: (len(left[key]), not key.endswith(".name"), key))
        # Even the best key leaves them all: these settings do not tell the streams apart.
        if len(left[key]) == len(others):
            return []
        picked.append(f"{key}={alike.pop(key)}")
        others = left[key]
    return picked if not others else []


def _by_settings(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs whose configs say the same about their stream."""
    alike: dict[tuple[tuple[str, ...], str], list[Run]] = {}
    for run in runs:
        alike.setdefault((stream_kind(run), json.dumps(_settings(run), sort_keys=True)), []).append(run)
    return list(alike.values())


def _add(runs: Sequence[Run], *, to: list[_Stream]) -> None:
    """Add runs of equal settings to the stream whose data they share, or else may share."""
    prints: dict[tuple[Any, ...], Any] = {}
    for run in runs:
        prints.setdefault((run.seed, frozenset(tokenizers(run))), run.results.fingerprints)
    possible = [s for s in to if all(s.prints.get(key, value) == value for key, value in prints.items())]
    # Settings that no seed has in common may still be of one stream: nothing speaks against it.
    stream = next((s for s in possible if s.prints.keys() & prints.keys()), possible[0] if possible else None)
    if stream is None:
        to.append(stream := _Stream())
    stream.runs += runs
    stream.prints |= prints


def _name(kind: Sequence[str], stream: _Stream, namesakes: Sequence[_Stream]) -> str:
    """The kind of a stream, with what sets it apart from others of this kind."""
    task, source, *more = kind
    words = [task, f"source {source}" if source else "", *more]
    every = [run for other in namesakes for run in other.runs]
    return ", ".join(word for word in [*words, *conditions(stream.runs, every)] if word)


def _settings(run: Run) -> Mapping[str, str]:
    settings = {key: show(value) for key, value in run.config.items() if key.split(".")[0] in SECTIONS}
    # A base for every seed, and a tokenizer that reads the same text, are no other stream.
    return {key: value for key, value in settings.items() if key != "base.seed" and not key.endswith("tokenizer")}


def _share(runs: Sequence[Run], key: str, value: str) -> bool:
    return all(show(run.config.get(key, "")) == value for run in runs)


def _is_plain(value: str) -> bool:
    # --where splits at commas.
    return bool(value) and "," not in value
