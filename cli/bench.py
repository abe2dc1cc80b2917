"""ttt-bench: what the harness and the fast weights cost, measured side by side in one run.

    ttt-bench harness     our loop over a bare torch loop that takes the same steps
    ttt-bench kernels     a gated MLP with mlp_fast over the same MLP without, in each of its forms
                          (* is the form that mlp_fast picks); --grid: all sizes;
                          --type float32,bfloat16
    ttt-bench adapters    each adapter's training step over the plain model's; time per token
                          by length
    ttt-bench strategies  each strategy's task on permuted digits over a bare torch loop, and
                          over naive
    ttt-bench precision   a training step in bf16-mixed over the same step in fp32, on this CPU
    ttt-bench data        batches of streams and sources beside the plain model's training step
    ttt-bench coverage    how often the intervals of ttt-compare hold the truth, in studies of an
                          invented population of tasks
    ttt-bench decode      a token read by a reader over a bare decoder whose keys and values lie in
                          place; for 1 and 32 lanes
    ttt-bench sampling    answers sampled for rewards (experiment=fst) over a bare batched decoder
    ttt-bench evaluation  an evaluation of the main job over bare passes in the same modes
    ttt-bench pretrained  prefill, decoding and training of a pretrained model, with and without
                          fast weights, over transformers alone; --model NAME; --type bfloat16
    ttt-bench startup     everything but arithmetic, each as a whole command beside a program that
                          does only what it must: a small run, the same again, a finished sweep of
                          12, a comparison of 1,000 runs, and the saving of 200 tasks
    ttt-bench all --against COMMIT
                          commands on this checkout and on a commit of it by turns: new over old
                          with a 95 % interval; --rows startup,adapters,strategies,evaluation
                          (default: all; a few minutes with --rounds 3). Exit code 1 where one is
                          more than 5 % slower and its interval leaves out 1

Rounds alternate between the sides; a ratio is the median over rounds of CPU times.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from importlib.resources import files

from ttt.cli.benches.timing import Row
from ttt.cli.console import Console, say_error
from ttt.cli.outlet import outlast_readers
from ttt.cli.parser import CommandParser, check_word
from ttt.cli.process import in_own_process
from ttt.run.exit_codes import ExitCode
from ttt.run.signals import TerminatedError

TYPES = ("float32", "bfloat16")
BENCHES = (
    "harness", "kernels", "adapters", "strategies", "precision", "data", "coverage", "decode", "sampling",
    "evaluation", "pretrained", "startup", "all",
)  # fmt: skip
ROWS = ("startup", "adapters", "strategies", "evaluation")


@in_own_process
def main() -> None:
    """Parse the command line, then measure and print."""
    outlast_readers()
    try:
        options = bench_options()
    except ValueError as error:
        say_error(f"ttt-bench: {error}")
        sys.exit(ExitCode.USAGE)
    console = Console(highlight=False)
    if options.what in ("startup", "all"):
        sys.exit(_measure_commands(options, console) or None)
    # Torch and what needs it load only now: a wrong argument is refused at once.
    import torch

    # One thread by default: results of several depend on what else the machine does.
    torch.set_num_threads(options.threads)
    _measure(options, console)


def bench_options() -> argparse.Namespace:
    """Return what was typed. Raises ValueError in the user's words."""
    options = bench_parser().parse_args()
    options.adapter = _listed("--adapter", options.adapter, allowed=shipped_options("adapter"))
    options.strategy = _listed("--strategy", options.strategy, allowed=shipped_options("strategy"))
    options.type = _listed("--type", options.type, allowed=TYPES)
    for name in ("rounds", "threads"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} {getattr(options, name)}: must be at least 1")
    if (options.what == "all") != (options.against is not None):
        raise ValueError("all and --against COMMIT: go together, as in ttt-bench all --against HEAD~1")
    options.rows = _listed("--rows", options.rows, allowed=ROWS)
    return options


def bench_parser() -> CommandParser:
    parser = CommandParser("ttt-bench", about=__doc__)
    parser.add_argument("what", choices=BENCHES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--type",
        metavar="|".join(TYPES),
        help="kernels: float32, bfloat16 or both, with a comma; pretrained: the first",
    )
    parser.add_argument("--model", default="smollm2", help="pretrained: a model.name (default: smollm2)")
    parser.add_argument("--grid", action="store_true", help="kernels: every size, about an hour")
    parser.add_argument("--adapter", help="adapters, precision: only these, with commas")
    parser.add_argument("--strategy", help="strategies: only these, with commas")
    parser.add_argument("--against", metavar="COMMIT", help="all: the commit to compare this checkout with")
    parser.add_argument("--rows", help=f"all: only these, with commas: {', '.join(ROWS)}")
    return parser


def _listed(option: str, typed: str | None, *, allowed: Iterable[str]) -> list[str]:
    """Split names at commas and check that each is allowed; None stands for all of them."""
    names = list(allowed) if typed is None else typed.split(",")
    for name in names:
        check_word(option, name, allowed)
    return names


def shipped_options(group: str) -> list[str]:
    """Return the names of the YAML files of a config group that come with ttt."""
    folder = files("ttt.conf") / group
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def _measure_commands(options: argparse.Namespace, console: Console) -> int:
    """Time whole commands; return 1 where one has become slower."""
    from ttt.cli.benches import against, printed, startup, trees

    slower: list[Row] = []

    def rows() -> Iterator[Row]:
        for row in against.measure_against(commit, options.rows, rounds=options.rounds):
            yield row
            slower.extend([row] if against.is_slower(row) else [])

    try:
        if options.what == "startup":
            printed.print_rows(console, "commands over their floors", startup.measure_startup(rounds=options.rounds))
            return ExitCode.DONE
        commit = trees.commit_of(options.against)
        printed.print_rows(console, f"this checkout over {commit[:12]}", rows())
    except ValueError as error:
        say_error(f"ttt-bench: {error}")
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except TerminatedError as stop:
        return 128 + stop.number
    for row in slower:
        say_error(f"ttt-bench: slower: {row['bench']}, {row['command']}: {row['new over old']:.3f}")
    return ExitCode.FAILED if slower else ExitCode.DONE


def _measure(options: argparse.Namespace, console: Console) -> None:
    import torch

    from ttt.cli.benches import adapters, coverage, data, harness, kernels, precision, pretrained, printed, strategies

    match options.what:
        case "harness":
            console.print(printed.harness_table(harness.measure_harness(rounds=options.rounds)))
            return
        case "kernels":
            title = "a gated MLP with mlp_fast over the same MLP without"
            sizes = kernels.GRID if options.grid else kernels.SIZES
            dtypes = [getattr(torch, name) for name in options.type]
            rows = kernels.measure_kernels(sizes, dtypes=dtypes, rounds=options.rounds)
        case "adapters":
            title = "adapters in the main job's model"
            rows = adapters.measure_adapters(options.adapter, rounds=options.rounds)
        case "strategies":
            title = "a task of permuted digits: MLP 64-256-256-10, batch 32, 10 passes"
            rows = strategies.measure_strategies(options.strategy, rounds=options.rounds)
        case "precision":
            title = "a training step of the main job's model"
            rows = precision.measure_precision(options.adapter, rounds=options.rounds)
        case "coverage":
            title = f"95 % intervals over {coverage.TRIALS} invented studies: the share that holds the truth"
            rows = coverage.measure_coverage()
        case "decode" | "sampling" | "evaluation":
            title, rows = _reading(options.what, rounds=options.rounds)
        case "pretrained":
            title = f"{options.model}: {pretrained.LENGTH} tokens, over transformers alone"
            rows = pretrained.measure_pretrained(
                options.model, half=options.type[0] == "bfloat16", rounds=options.rounds
            )
        case _:
            title = "preparing batches beside the training step of the plain model"
            rows = data.measure_data(rounds=options.rounds)
    printed.print_rows(console, title, rows)


def _reading(what: str, *, rounds: int) -> tuple[str, Iterator[Row]]:
    """The title and the rows of a benchmark in which nothing is learned."""
    from ttt.cli.benches import decode, evaluation, sampling

    if what == "decode":
        title = "decoding in the main job's model, over a bare decoder of the plain model"
        return title, decode.measure_decoding(rounds=rounds)
    if what == "sampling":
        return "sampling in the model of experiment=fst, over a bare decoder", sampling.measure_sampling(rounds=rounds)
    title = f"evaluation of {evaluation.TASKS} tasks of the main job, over bare passes"
    return title, evaluation.measure_evaluation(rounds=rounds)


if __name__ == "__main__":
    main()
