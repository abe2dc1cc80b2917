"""Which runs to compare: those that were asked for, and a check that they saw the same streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttt.compare.runs import Run
from ttt.compare.tokens import tokenizers
from ttt.config.messages import few, show, suggest


def where(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """Runs that have one of the values of each KEY=VALUE[,VALUE].

    Raises ValueError for a key, a value or a combination that no run has.
    """
    matching = list(runs)
    for typed in conditions:
        key, equals, text = typed.partition("=")
        if not equals or not text:
            raise ValueError(f"--where {typed}: must be KEY=VALUE or KEY=VALUE,VALUE, such as optimizer.lr=0.001")
        if not any(key == "seed" or key in run.config for run in runs):
            raise ValueError(f"--where {typed}: no run has the key {key!r}; {suggest(key, ['seed', *differing(runs)])}")
        values = text.split(",")
        # Each value is checked: a typing error beside a good value would drop runs silently.
        for value in values:
            if not any(_is(run, key, value) for run in runs):
                options = {show(_value(run, key)) for run in runs} - {""}
                raise ValueError(f"--where {typed}: no run has {key}={value}; {suggest(value, options)}")
        matching = [run for run in matching if any(_is(run, key, value) for value in values)]
    if not matching:
        raise ValueError(f"--where {' '.join(conditions)}: no run has all of these")
    return matching


def _value(run: Run, key: str) -> Any:
    return run.seed if key == "seed" else run.config.get(key, "")


def _is(run: Run, key: str, typed: str) -> bool:
    return same_value(_value(run, key), typed)


def same_value(value: Any, typed: str) -> bool:
    """Compare by value where both are numbers, so that `1e-3` matches `0.001`."""
    try:
        return float(typed) == value or show(value) == typed
    except ValueError:
        return show(value) == typed


def differing(runs: Sequence[Run]) -> list[str]:
    """The keys in which the runs differ: only these are worth suggesting."""
    keys = {key for run in runs for key in run.config}
    return [key for key in keys if len({show(_value(run, key)) for run in runs}) > 1]


def check_streams(runs: Sequence[Run]) -> None:
    """Raise ValueError if equal seeds of one task, source and tokenizer saw different streams.

    Differences are paired by seed to remove how hard a stream is, which takes the same stream.
    """
    seen: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        names = (run.config.get("task.name"), run.config.get("source.name"), frozenset(tokenizers(run)))
        other = seen.setdefault((run.seed, *names), run)
        # Fingerprints are of the data themselves: equal configs can read files that have changed.
        if other.results.fingerprints != run.results.fingerprints:
            raise ValueError(
                f"{other.folder} and {run.folder} have seed {run.seed} but saw different streams "
                f"{_what_differs(run, other)}"
            )


def _what_differs(run: Run, other: Run) -> str:
    """The config keys that made two streams different, and how to pick one of the streams."""
    keys = sorted(
        key
        for key in {*run.config, *other.config}
        if key.split(".")[0] in ("task", "source", "base") and run.config.get(key) != other.config.get(key)
    )
    if not keys:
        return "(the data behind them differ): their numbers do not compare"
    theirs, ours = ([show(each.config.get(key)) for key in keys] for each in (other, run))
    differences = few(f"{key}={a} and {b}" for key, a, b in zip(keys, theirs, ours, strict=True))
    return f"({differences}): their numbers do not compare; to pick one: --where {keys[0]}={theirs[0]}"
