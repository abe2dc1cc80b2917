"""ttt-check: does a part of your own keep what the project promises?

    ttt-check adapter=mine --config-dir mine
    ttt-check source=haiku task=mine --config-dir mine source.folder=poems
    ttt-check strategy=replay strategy.size=50      the project's own parts as well

Type the parts to check, of adapter, strategy, task, source, model and optimizer, and any settings
as for ttt-run. What is left open is made small: the promises are tried on runs of seconds, which
leave nothing behind. Exit codes: 0 all are kept; 1 one is broken; 2 the command was wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from ttt.cli.console import Console, say_error
from ttt.cli.outlet import outlast_readers
from ttt.cli.parser import CommandParser
from ttt.cli.process import in_own_process
from ttt.run.exit_codes import ExitCode

# Columns of a console that is a file or a pipe.
WIDTH = 160


@in_own_process
def main() -> None:
    """Run the console command."""
    outlast_readers()
    try:
        typed = typed_options(sys.argv[1:])
        code = check(typed.words, config_dir=typed.config_dir)
    except ValueError as error:
        say_error(f"ttt-check: {error}")
        sys.exit(ExitCode.USAGE)
    if code:
        sys.exit(code)


def typed_options(argv: list[str]) -> argparse.Namespace:
    return check_parser().parse_intermixed_args(argv)


def check_parser() -> CommandParser:
    parser = CommandParser("ttt-check", about=__doc__)
    parser.add_argument("words", nargs="*", metavar="GROUP=NAME", help="parts and settings, as ttt-run takes them")
    parser.add_argument("--config-dir", metavar="DIR", help="the folder of your own modules, as in ttt-run")
    return parser


def check(words: list[str], *, config_dir: str | None) -> int:
    """Print a table for each part that was typed; return the exit code."""
    from ttt.cli.checks.tiny import checked_groups, tiny_config

    parts, start = checked_groups(words), time.perf_counter()
    config = tiny_config(words, config_dir=config_dir)
    # Imported here, so that neither `--help` nor a mistyped word waits for torch.
    import torch

    from ttt.cli.checks.show import show_rulings
    from ttt.promises.parts import promises_of, rule
    from ttt.promises.runs import TinyRun

    trusted = [Path(config_dir).resolve()] if config_dir else []
    sys.path.extend(str(path) for path in trusted if str(path) not in sys.path)
    # Sums in one thread have one order: promises to the bit are about the part, not about threads.
    torch.set_num_threads(1)
    console, broken = Console(highlight=False), 0
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    # One config for all: parts that are typed together are checked together.
    run = TinyRun(config, trusted)
    for group in parts:
        with Console(stderr=True).status(f"{group}={config[group]['name']}") as status:
            rulings = {}
            for promise, judge in promises_of(group, run).items():
                status.update(promise)
                rulings[promise] = rule(judge, trusted=trusted)
        console.print(show_rulings(f"{group}={config[group]['name']}", rulings))
        broken += sum(ruling.holds is False for ruling in rulings.values())
    verdict = f"{broken} broken" if broken else "every promise that was given is kept"
    console.print(f"{verdict}; {time.perf_counter() - start:.1f} s")
    return ExitCode.FAILED if broken else ExitCode.DONE


if __name__ == "__main__":
    main()
