"""ttt-eval: tasks of lm-eval, done by a model that learns while it reads.

    ttt-eval RUN --tasks hellaswag,arc_easy --limit 100
    ttt-eval RUN --tasks niah_single_1,ruler_vt --metadata '{"max_seq_lengths": [4096]}'
                                        parts of RULER that need no network
    ttt-eval RUN --tasks mine --include-path my_tasks
                                        YAML tasks of your own, as lm-eval reads them
    ttt-eval model=smollm2 adapter=mlp_fast_convert --tasks arc_easy --mode slow
                                        the model that ttt-run would take, before any training

RUN is a folder that ttt-run made. Every request finds the fast weights empty; with --mode fast they
are written while it is read, also by the answer's own tokens, and with --mode slow never: these are
the numbers of lm-eval's `hf` for the plain model. Needs lm-eval. The table goes to the standard
output, all numbers to RUN/evals/NAME.json. Exit codes: 0; 2 the command or a task was wrong; 77 the
disk is full; 78 a file cannot be written; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ttt.cli.console import Console, say_error
from ttt.cli.evals.arguments import eval_options, file_name
from ttt.cli.outlet import outlast_readers
from ttt.cli.process import in_own_process
from ttt.run.exit_codes import ExitCode
from ttt.storage.files import FULL

# Columns of a console that is a file or a pipe.
WIDTH = 140


@in_own_process
def main() -> None:
    """Run the console command."""
    outlast_readers()
    try:
        typed = eval_options(sys.argv[1:], about=__doc__ or "")
        # Imported here and below, so that a mistyped word does not wait for torch.
        import torch

        from ttt.requests.suite import load_library
        from ttt.run.hub import look_only_here_without_network

        load_library()
        look_only_here_without_network()
        torch.set_num_threads(typed.threads)
        run_evaluation(typed)
    except ValueError as error:
        say_error(f"ttt-eval: {error}")
        sys.exit(ExitCode.USAGE)
    except KeyboardInterrupt:
        say_error("ttt-eval: stopped")
        sys.exit(ExitCode.INTERRUPTED)
    except OSError as error:
        say_error(f"ttt-eval: {error.filename}: {error.strerror}")
        sys.exit(ExitCode.DISK if error.errno in FULL else ExitCode.DATA)


def run_evaluation(typed: argparse.Namespace) -> None:
    """Ask everything, print the table, write the file. Raises ValueError in the user's words."""
    from ttt.cli.evals.opening import open_subject, respondent_of, suite_of
    from ttt.cli.evals.quiet import Quiet
    from ttt.cli.evals.show import numbers_of
    from ttt.requests.model import RunModel
    from ttt.requests.suite import manager_of, run_suite

    with tempfile.TemporaryDirectory(prefix="ttt-eval-") as folder, Quiet() as screen:
        # Tasks that measure their texts find the tokenizer here; their names are checked before.
        suite = suite_of(typed, tokenizer=Path(folder))
        manager = manager_of(suite)
        screen.say("the model")
        subject = open_subject(typed.run, typed.overrides, config_dir=typed.config_dir)
        respondent = respondent_of(subject, mode=typed.mode, rows=typed.rows)
        subject.codec.save(Path(folder))
        model = RunModel(
            respondent, subject.codec, positions=subject.positions, seed=suite.seeds["torch_random_seed"],
            progress=screen.say,
        )  # fmt: skip
        screen.say("the tasks")
        start = time.perf_counter()
        measured = run_suite(suite, model, manager)
        seconds = time.perf_counter() - start
    show(typed, numbers_of(subject, respondent, suite, model, measured) | {"seconds": seconds})


def show(typed: argparse.Namespace, numbers: dict[str, Any]) -> None:
    """Print the table, and write the numbers where there is a place for them."""
    from ttt.cli.evals.show import table_of, title_of
    from ttt.results.rows import plain
    from ttt.storage.files import write_json

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    # Whole, and not as markup: overrides may hold brackets.
    console.print(title_of(numbers), markup=False, soft_wrap=True)
    console.print(table_of(numbers))
    place = typed.out or (typed.run and typed.run / "evals")
    if place is None:
        where = ""
    else:
        place.mkdir(parents=True, exist_ok=True)
        file = place / file_name(typed, mode=numbers["mode"])
        # JSON has no NaN: plain() writes null.
        write_json(file, plain(numbers))
        where = f"; kept in {file}"
    console.print(f"{numbers['requests']} requests, {numbers['seconds']:.1f} s{where}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
