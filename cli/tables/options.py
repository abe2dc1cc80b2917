"""The options of ttt-compare."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ttt.cli.parser import CommandParser
from ttt.cli.tables.pictures import add_looks
from ttt.cli.tables.statistics import add_statistics
from ttt.cli.tables.written import FORMS, SUFFIXES
from ttt.compare.frontier import RATE
from ttt.compare.groups import MOMENTS

DESCRIPTION = "ttt-compare: many runs in, one table out for each stream; mean, sd and 95 % t-interval over seeds."


def compare_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was typed, or `words` in its place. Raises ValueError in the user's words."""
    return compare_parser().parse_args(words)


def compare_parser() -> CommandParser:
    parser = CommandParser("ttt-compare", about=DESCRIPTION)
    add = parser.add_argument
    add("runs", nargs="*", default=["outputs"],
        help="run folders, folders of them, folders of sweeps, or patterns: 'outputs/*/none-*'")  # fmt: skip
    add("--metrics", nargs="+", metavar="MODE/QUANTITY/METRIC", help="columns; a * stands for anything: 'fast/loss/*'")
    add("--where", nargs="+", default=[], metavar="KEY=VALUE",
        help="only runs with such values: optimizer.lr=0.001,0.01")  # fmt: skip
    add("--sort", metavar="MODE/QUANTITY/METRIC", help="best group first")
    add("--baseline", metavar="KEY=VALUE",
        help="show differences to the groups of that value, equal in all else, over equal seeds: "
        "adapter.name=none")  # fmt: skip
    add_statistics(parser)
    _add_kinds(parser)
    add("--axes", nargs=2, metavar="METRIC", help="with --frontier: its two metrics, learning and forgetting")
    add("--label", nargs="+", default=[], metavar="KEY=VALUE=NAME",
        help="what a paper calls a method, a key or a metric: 'adapter=mlp_fast=In-Place TTT' "
        "optimizer.lr=rate")  # fmt: skip
    add_looks(parser)
    add("--wandb", nargs="?", const="ttt", metavar="PROJECT", help="also push the comparison to W&B (project: ttt)")
    add("--format", metavar="|".join(FORMS),
        help="long: a row for each run and metric; latex: for the booktabs package")  # fmt: skip
    add("--to", type=Path, metavar="FILE",
        help=f"write the table to a file, by its suffix: {', '.join(SUFFIXES)}")  # fmt: skip
    add("--caption", metavar="TEXT", help="of a latex table")
    add("--ref", metavar="LABEL", help=r"of a latex table: its \label")
    return parser


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    """Add the options that replace the table of groups: at most one of them can be typed."""
    add = parser.add_mutually_exclusive_group().add_argument
    add("--frontier", nargs="?", const=RATE, metavar="KEY",
        help=f"learning against forgetting instead: a line for each method over KEY ({RATE}), "
        "and the area below it")  # fmt: skip
    add("--per-task", metavar="MODE/QUANTITY/MOMENT",
        help=f"a row for each task instead: fast/accuracy/final; moments: {', '.join(MOMENTS)}")  # fmt: skip
    add("--curve", metavar="MODE/QUANTITY/METRIC",
        help="a row after each phase instead, over the tasks learned by then: fast/loss/avg_final")  # fmt: skip
    add("--published", action="store_true", help="our values beside published ones, where these are known")
    add("--claims", action="store_true",
        help="our figures beside what is claimed of Fast-Slow Training, with verdicts")  # fmt: skip
