"""The options of ttt-run: Hydra's, and ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from ttt.cli.commands import version_line
from ttt.cli.runs.display import OPTIONS
from ttt.config.messages import UsageError

# Options of Hydra's that would replace the project's own config, and what to type instead.
REFUSED = {
    "config_path": "--config-dir FOLDER adds YAML files of your own",
    "config_name": "--config-dir FOLDER adds YAML files of your own, and experiment=NAME takes one",
    "package": "settings are typed with their group, as adapter.chunk=32",
    "experimental_rerun": "the same command again resumes a run",
}


def parse_command(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's own reading of the command line, with options before, between or behind overrides."""
    typed = run_parser().parse_intermixed_args(list(argv))
    for name, instead in REFUSED.items():
        if getattr(typed, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(typed, name)}: not an option of ttt-run; {instead}")
    if typed.resolve and not typed.cfg:
        raise UsageError("--resolve: goes with --cfg job, as in ttt-run --cfg job --resolve")
    return typed


def run_parser() -> argparse.ArgumentParser:
    """Hydra's own parser with our options."""
    parser = get_args_parser()
    # argparse would print its whole usage and exit.
    parser.error = _refuse  # type: ignore[method-assign]
    for action in parser._actions:
        if "--version" in action.option_strings:
            # Hydra would give its own.
            action.version = version_line()  # type: ignore[attr-defined]
    parser.add_argument("--preview", action="store_true")
    for option in OPTIONS:
        parser.add_argument(option, action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--study")
    parser.add_argument("--only", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds")
    parser.add_argument("--completion", metavar="bash|fish|zsh")
    return parser


def _refuse(message: str) -> NoReturn:
    hint = "settings are typed without dashes, as optimizer.lr=1e-3; " if "unrecognized" in message else ""
    first = message.rpartition("unrecognized arguments: ")[2].split()[0]
    if hint and "=" in first:
        hint = f"did you mean {first.lstrip('-')}? "
    raise UsageError(f"{message}; {hint}see ttt-run --help")
