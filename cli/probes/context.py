"""`ttt-probe context`: what a longer context is worth, with writes off, on, and carried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ttt.adapters.evolving import Evolving
from ttt.cli.probes.overrides import composed
from ttt.learner import Learner
from ttt.probes.context import Asked, Starts, probe_asked, probe_text, seen, starts_of, window_of
from ttt.run.data import build_data, build_source
from ttt.run.open import OpenedRun
from ttt.storage.environment import peak_memory_bytes
from ttt.stream import Batch, Source

# Without --lengths: task.seq_len times these.
TIMES = (1, 2, 4)
# Where the control stands in a table.
ABSENT = "absent (control)"


class ContextSubject(NamedTuple):
    """What is probed; `has_stream`: did a stream leave it a state?"""

    config: dict[str, Any]
    learner: Learner
    trusted: Sequence[Path]
    weights: str
    has_stream: bool


class Lengths(NamedTuple):
    """How long contexts are, how many tokens at their end are compared, and rows of each task."""

    tokens: Sequence[int]
    block: int | None
    sequences: int

    @classmethod
    def typed(
        cls, subject: ContextSubject, *, tokens: Sequence[int] | None, block: int | None, sequences: int
    ) -> Lengths:
        """Those that were typed; without any, multiples of the length of the stream's rows."""
        length = subject.config["task"]["seq_len"]
        return cls(sorted(set(tokens or [length * times for times in TIMES])), block, sequences)

    @property
    def last(self) -> int:
        """The tokens that are compared: half of the shortest context, where none were typed."""
        return self.block or max(self.tokens[0] // 2, 1)


def subject_of(run: OpenedRun | None, words: Sequence[str], *, config_dir: Path | None) -> ContextSubject:
    """The learner of a run, or of overrides. Raises ValueError for one that reads no contexts."""
    trusted = [config_dir] if config_dir else []
    if run is not None:
        return ContextSubject(run.config, run.learner, trusted, f"after task {run.learned}", True)
    base = composed(words, config_dir=config_dir)
    learner = base.assembly.learner
    if isinstance(learner.adapter, Evolving):
        raise ValueError(f"adapter={learner.adapter.name}: its fast weights are prompts, not written while reading")
    return ContextSubject(base.config, learner, trusted, base.weights, False)


def read_context(subject: ContextSubject, lengths: Lengths, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return all numbers: of questions where the source asks any, else of running text."""
    check_lengths(subject, lengths)
    starts = starts_of(subject.learner, has_stream=subject.has_stream)
    source = build_source(subject.config, subject.trusted)
    half = subject.config["trainer"]["precision"] == "bf16-mixed"
    if isinstance(source, Asked):
        if lengths.block is not None:
            raise ValueError(
                f"--block {lengths.block}: does nothing with source={source.name}, whose answers are compared"
            )
        tables = {"asked": _asked(subject, source, starts, lengths, half=half, progress=progress)}
    else:
        batch = long_rows(subject, lengths)
        tables = probe_text(
            subject.learner, batch, starts, lengths=lengths.tokens, block=lengths.last, half=half, progress=progress
        )
    settings = {
        "adapter": subject.learner.adapter.name,
        "weights": subject.weights,
        "source": source.name,
        "window": window_of(subject.learner),
        "block": None if isinstance(source, Asked) else lengths.last,
        "modes": list(starts),
        "peak_mb": peak_memory_bytes() / 1e6,
    }
    return {"settings": settings, **tables}


def check_lengths(subject: ContextSubject, lengths: Lengths) -> None:
    """Raise ValueError for a context that the model has no positions for, or no tokens in."""
    model = subject.learner.model
    if not hasattr(model, "get_input_embeddings"):
        raise ValueError(f"model={subject.config['model']['name']}: reads vectors, whose rows are no contexts")
    if lengths.block is not None and lengths.block >= lengths.tokens[0]:
        raise ValueError(f"--block {lengths.block}: must be below the shortest of --lengths, {lengths.tokens[0]}")
    window, positions = window_of(subject.learner), positions_of(model)
    # Attention depends on distances alone, and no distance is larger than the window.
    if positions is not None and lengths.tokens[-1] > positions and (window is None or window > positions):
        raise ValueError(
            f"--lengths {lengths.tokens[-1]}: model.name={subject.config['model']['name']} has {positions} positions; "
            f"with model.window={positions} or less it reads on"
        )


def positions_of(model: Any) -> int | None:
    """The positions that a model of transformers was made for; None: there is no bound."""
    config = getattr(getattr(model, "lm", None), "config", None)
    positions: int | None = getattr(config, "max_position_embeddings", None)
    return positions


def long_rows(subject: ContextSubject, lengths: Lengths) -> Batch:
    """Rows of the eval part of each task, as long as the longest context."""
    longest = lengths.tokens[-1]
    # Only the eval part is read: small batches keep the stream's fingerprints cheap.
    sizes = {"seq_len": longest, "eval_sequences": lengths.sequences, "batch_size": 1, "steps_per_task": 1}
    task = subject.config["task"] | sizes | {"train_tokens": None}
    # What the base was trained on is not read here.
    config = subject.config | {"task": task, "base_source": None}
    try:
        _, stream = build_data(config, base_seed=config["base"]["seed"], trusted=subject.trusted)
        batches = [each.evaluation() for each in stream.tasks]
    except ValueError as error:
        raise by_option(error, longest) from error
    if stream.layout is not None:
        raise ValueError(f"task={task['name']}: its rows are problems, and no context grows before them")
    return Batch.stack(batches)


def by_option(error: ValueError, length: int) -> ValueError:
    """What a source refuses, by the option that was typed."""
    return ValueError(str(error).replace(f"task.seq_len={length}", f"--lengths {length}"))


def _asked(
    subject: ContextSubject,
    source: Asked,
    starts: Starts,
    lengths: Lengths,
    *,
    half: bool,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """A row for each length and class, and for each length one of the control, without answers."""
    control = _control_of(subject)
    window, rows = window_of(subject.learner), []
    for length in lengths.tokens:
        try:
            batches = _questions(source, length, lengths.sequences)
            absent = _questions(control, length, lengths.sequences) if control is not None else {}
        except ValueError as error:
            raise by_option(error, length) from error
        # In the control there is nothing at any depth: all depths are one row.
        if absent:
            batches |= {ABSENT: Batch.stack(list(absent.values()))}
        where = [seen(window, *source.distances(c, length=length)) for c in _classes(source)]
        measured = probe_asked(subject.learner, batches, starts, half=half, progress=progress)
        # The control has no needle, and so no distance that attention could see.
        labels = [*where, *([""] if absent else [])]
        rows += [{"length": length, "seen": label, **row} for label, row in zip(labels, measured, strict=True)]
    return rows


def _control_of(subject: ContextSubject) -> Source | None:
    """The same source where no answer stands in the text; None where it has no such control."""
    source = subject.config["source"]
    if source.get("present") is not True:
        return None
    return build_source(subject.config | {"source": source | {"present": False}}, subject.trusted)


def _classes(source: Source) -> list[int]:
    return [family[0] for family in source.families()]


def _questions(source: Source, length: int, rows: int) -> dict[str, Batch]:
    """class -> fixed rows of it."""
    return {
        source.class_name(index): source.evaluation(np.array([index]), rows=rows, length=length)
        for index in _classes(source)
    }
