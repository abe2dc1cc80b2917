"""ttt-run sync: show runs in a tracker, from what their folders hold.

Each run appears there once, under its own id, however often it is synced: as it would have with
logger=LOGGER from the start. Without --logger it is the tracker that the run was typed with.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ttt.cli.console import say_error
from ttt.cli.runs.subword import SubwordParser
from ttt.config.messages import UsageError, few, suggest
from ttt.run.exit_codes import ExitCode

if TYPE_CHECKING:
    from ttt.run.sync import Rebuilt


def sync(words: Sequence[str]) -> int:
    """Do what `ttt-run sync WORDS` says. Raises UsageError."""
    typed = sync_parser().parse_args(list(words))
    # Imported here, so that `--help` does not wait for them.
    from ttt.compare.runs import find_runs
    from ttt.run.sync import Rebuilt, loggers

    if typed.logger is not None and typed.logger not in loggers():
        raise UsageError(f"--logger {typed.logger}: unknown; {suggest(typed.logger, loggers())}")
    try:
        search = find_runs(typed.runs)
        settings = {"weights": typed.weights.split(",")} if typed.weights else {}
        runs = [
            Rebuilt.of(folder, logger=typed.logger, settings=settings) for folder in [*search.done, *search.unfinished]
        ]
    except ValueError as error:
        raise UsageError(f"sync: {error}") from error
    if not runs:
        raise UsageError(f"sync: {few(typed.runs)}: holds no run")
    return max([_sync(run) for run in runs], default=ExitCode.DONE)


def sync_parser() -> argparse.ArgumentParser:
    parser = SubwordParser("sync", about=str(__doc__))
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, folders of them, or globs")
    parser.add_argument("--logger", metavar="LOGGER", help="csv, wandb, tensorboard, trackio or mlflow")
    parser.add_argument(
        "--weights", metavar="base,final", help="also send these weights, as with logger.weights of wandb"
    )
    return parser


def _sync(run: Rebuilt) -> int:
    """Show one run; return an exit code."""
    try:
        where = run.show()
    # Trackers raise whatever their network and their client raise; the next run may still go.
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        say_error(f"ttt-run: sync: {run.folder}: {first_line}")
        return ExitCode.FAILED
    print(f"{run.folder}: {where}")
    return ExitCode.DONE
