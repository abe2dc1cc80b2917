"""The parser of each command, and what the values of its options may be.

Each is imported when its command is completed: together they take a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping

from ttt.cli.completion.settings import Settings
from ttt.cli.probes.arguments import PROBES
from ttt.cli.runs.parser import REFUSED

# Words that stand in place of settings.
SUBWORDS = {"ttt-run": ("clean", "sync")}
# The first word of a command, if it is one of a few.
FIRST = SUBWORDS | {"ttt-probe": PROBES}
# Options of Hydra's that are refused, or that serve programs, not people.
HIDDEN = {*(f"--{name.replace('_', '-')}" for name in REFUSED), "--run", "--shell-completion"}


def parser_of(command: str, subword: str = "") -> argparse.ArgumentParser:
    """The parser of a command, or of `ttt-run clean` and the like."""
    match command, subword:
        case "ttt-run", "clean":
            from ttt.cli.runs.clean import clean_parser as build
        case "ttt-run", "sync":
            from ttt.cli.runs.sync import sync_parser as build
        case "ttt-run", _:
            from ttt.cli.runs.parser import run_parser as build
        case "ttt-compare", _:
            from ttt.cli.tables.options import compare_parser as build
        case "ttt-report", _:
            from ttt.cli.report import report_parser as build
        case "ttt-probe", _:
            from ttt.cli.probes.arguments import probe_parser as build
        case "ttt-check", _:
            from ttt.cli.check import check_parser as build
        case "ttt-bench", _:
            from ttt.cli.bench import bench_parser as build
        case "ttt-stream", _:
            from ttt.cli.streaming.arguments import stream_parser as build
        case "ttt-eval", _:
            from ttt.cli.evals.arguments import eval_parser as build
        case "ttt-export", _:
            from ttt.cli.export import export_parser as build
        case _:
            return argparse.ArgumentParser()
    return build()


def _studies(settings: Settings) -> Iterator[str]:
    read = settings.library.read
    return (name for name in settings.library.options("experiment") if "\nstudy:" in read(f"experiment/{name}"))


def _metrics(_: Settings) -> Iterator[str]:
    from ttt.results.definitions import FAST_GAIN, METRICS, SPLIT
    from ttt.results.scores import MODES, QUANTITIES, REWARDED

    quantities = (*QUANTITIES, *REWARDED)
    tables = [*((mode, METRICS) for mode in MODES), ("fast_gain", FAST_GAIN), ("split", SPLIT)]
    return (f"{mode}/{quantity}/{x}" for mode, table in tables for quantity in quantities for x in table)


def _moments(_: Settings) -> Iterator[str]:
    from ttt.compare.groups import MOMENTS
    from ttt.results.scores import MODES, QUANTITIES, REWARDED

    return (f"{mode}/{x}/{moment}" for mode in MODES for x in (*QUANTITIES, *REWARDED) for moment in MOMENTS)


# What an option takes, by its name, or by what its help calls that.
VALUES: Mapping[str, Callable[[Settings], Iterable[str]]] = {
    "adapter": lambda settings: settings.library.options("adapter"),
    "strategy": lambda settings: settings.library.options("strategy"),
    "logger": lambda settings: settings.library.options("logger"),
    "study": _studies,
    "MODE/QUANTITY/METRIC": _metrics,
    "METRIC": _metrics,
    "MODE/QUANTITY/MOMENT": _moments,
}
