"""The options of ttt-compare that say what a number is taken of, and what its interval knows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from ttt.cli.parser import check_word
from ttt.compare.correction import Correct
from ttt.compare.groups import Group, group_runs
from ttt.compare.nulls import Null, pair
from ttt.compare.runs import Run, find_runs, read_run
from ttt.compare.sheet import Sheet
from ttt.compare.statistics import IntervalBy
from ttt.compare.strata import by_tag, summarised
from ttt.compare.streams import StreamRuns, by_stream
from ttt.metrics.bootstrap import Over

STREAM_KEYS = ("task.", "source.")


def add_statistics(parser: argparse.ArgumentParser) -> None:
    """Add these options."""
    add = parser.add_argument
    add("--interval", default="t", metavar="t|bootstrap",
        help="t: over seeds (ratios: Fieller); bootstrap: over bases, seeds of a base and tasks of a run")  # fmt: skip
    add("--over-tasks", default="mean", metavar="mean|median|trimmed",
        help="how metrics average over tasks; trimmed: without 10 %% of them at either end")  # fmt: skip
    add("--by", metavar="TAG", help="a row for each value of a tag of the tasks, over these tasks alone: script")
    add("--null", nargs="+", metavar="KEY=VALUE",
        help="minus the same of the run that differs in this alone, seed by seed: task=stationary; runs that are "
        "missing are started")  # fmt: skip
    add("--correct", default="none", metavar="none|holm",
        help="of the p of all differences of a table: Holm's correction for their number")  # fmt: skip
    add("--no-start", action="store_true", help="with --null: refuse where nulls are missing, start none")


def without_statistics(typed: argparse.Namespace, *, shown: str) -> None:
    """Raise ValueError for one of these options beside a view that does not know them."""
    defaults = {"interval": "t", "over_tasks": "mean", "by": None, "null": None, "correct": "none"}
    for name, default in defaults.items():
        # Curves and single tasks have intervals too.
        if getattr(typed, name) != default and not (name == "interval" and shown in ("--per-task", "--curve")):
            raise ValueError(f"--{name.replace('_', '-')}: does not go with {shown}")


def streams(typed: argparse.Namespace, runs: Sequence[Run]) -> list[StreamRuns]:
    """The runs of each stream, minus their nulls where these were typed."""
    check_word("--interval", typed.interval, get_args(IntervalBy))
    check_word("--over-tasks", typed.over_tasks, get_args(Over))
    check_word("--correct", typed.correct, get_args(Correct))
    if typed.no_start and not typed.null:
        raise ValueError("--no-start: goes with --null")
    runs = minus_null(typed, runs) if typed.null else runs
    # Who compares streams with each other wants them in one table.
    if any((typed_key or "").startswith(STREAM_KEYS) for typed_key in (typed.baseline, typed.frontier)):
        return [StreamRuns("", runs, [])]
    return by_stream(runs)


def grouped(typed: argparse.Namespace, runs: Sequence[Run]) -> list[Group]:
    """The runs of one stream as groups, with metrics taken as was typed."""
    groups = group_runs(runs, by=typed.interval)
    groups = summarised(groups, typed.over_tasks)
    return by_tag(groups, typed.by) if typed.by else groups


def minus_null(typed: argparse.Namespace, runs: Sequence[Run]) -> list[Run]:
    """The runs that are no nulls, each with its null.

    Raises ValueError where a null is missing that may not be started, or failed; SystemExit where
    the sweep of nulls was stopped.
    """
    null = Null(typed.null)
    null.check(runs)
    methods = [run for run in runs if not null.is_null(run.config)]
    if not methods:
        raise ValueError(f"--null {null.typed}: all of these runs are nulls themselves")
    pairs = _pairs(typed, methods, null)
    missing = [run for run in methods if run.folder not in pairs]
    if missing and typed.no_start:
        raise ValueError(
            f"--null {null.typed}: {len(missing)} of {len(methods)} runs have no null, the first is "
            f"{missing[0].folder}; without --no-start they are run"
        )
    if missing:
        # Imported here: a table alone starts nothing.
        from ttt.cli.sweeps.nulls import start_nulls

        code = start_nulls(missing, null)
        # Nulls are looked for once more: the sweep may have run only some of them.
        pairs = _pairs(typed, methods, null)
        if code and any(run.folder not in pairs for run in methods):
            raise SystemExit(code)
    nulls = {folder: read_run(folder) for folder in set(pairs.values())}
    return [replace(run, null=nulls[pairs[run.folder]]) for run in methods]


def _pairs(typed: argparse.Namespace, runs: Sequence[Run], null: Null) -> dict[Path, Path]:
    # A null lies where its run would lie, which may be outside of what was typed.
    folders = {str(run.folder.resolve().parents[2]) for run in runs}
    return pair(runs, find_runs([*typed.runs, *sorted(folders)]).done, null)


def headed(sheet: Sheet, typed: argparse.Namespace) -> Sheet:
    """The sheet with columns that say what was subtracted."""
    if not typed.null:
        return sheet
    columns = [f"{column}, minus null" for column in sheet.columns]
    return replace(sheet, columns=columns, legend=[*sheet.legend, f"null: {' '.join(typed.null)}, run for run"])
