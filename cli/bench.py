"""ttt-bench: what the harness and the fast weights cost, measured side by side in one run.

    ttt-bench harness     our loop against a bare torch loop that takes the same steps
    ttt-bench kernels     a gated MLP with mlp_fast, in each of its forms (* the one that is picked), over the
                          same MLP without; --grid: all sizes; --type float32,bfloat16
    ttt-bench adapters    each adapter's training step over the plain model's; time per token by length
    ttt-bench strategies  each strategy's task on permuted digits over a bare torch loop, and over naive
    ttt-bench data        batches of streams and sources beside the plain model's training step

Rounds alternate between the sides; a ratio is the median over rounds of CPU times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from importlib.resources import files

from rich.console import Console
from rich.table import Table

Row = dict[str, float | str]
TYPES = ("float32", "bfloat16")
# Columns that hold words.
WIDE = {"B x T": 9, "D, F": 9, "form": 40, "adapter": 12, "strategy": 19, "task": 18, "source": 10}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="ttt-bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["harness", "kernels", "adapters", "strategies", "data"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--type", default=",".join(TYPES), help="kernels: float32, bfloat16 or both, with a comma")
    parser.add_argument("--grid", action="store_true", help="kernels: every size, about an hour")
    parser.add_argument("--adapter", default=None, help="adapters: only these, with commas")
    parser.add_argument("--strategy", default=None, help="strategies: only these, with commas")
    typed = parser.parse_args()
    adapters = _listed(parser, "--adapter", typed.adapter, allowed=shipped("adapter"))
    strategies = _listed(parser, "--strategy", typed.strategy, allowed=shipped("strategy"))
    types = _listed(parser, "--type", typed.type, allowed=TYPES)
    for argument in ("rounds", "threads"):
        if getattr(typed, argument) < 1:
            parser.error(f"--{argument} {getattr(typed, argument)}: must be at least 1")
    import torch

    torch.set_num_threads(typed.threads)
    # Imported here: a wrong argument should not wait for torch.
    from ttt.cli.benches import adapters as bench_adapters
    from ttt.cli.benches import data as bench_data
    from ttt.cli.benches import harness as bench_harness
    from ttt.cli.benches import kernels as bench_kernels
    from ttt.cli.benches import strategies as bench_strategies

    console = Console(highlight=False)
    if typed.what == "harness":
        console.print(harness_table(bench_harness.measure(rounds=typed.rounds)))
    elif typed.what == "kernels":
        sizes = bench_kernels.GRID if typed.grid else bench_kernels.SIZES
        rows = bench_kernels.measure(sizes, dtypes=[getattr(torch, name) for name in types], rounds=typed.rounds)
        show(console, "a gated MLP with mlp_fast over the same MLP without", rows)
    elif typed.what == "strategies":
        rows = bench_strategies.measure(strategies, rounds=typed.rounds)
        show(console, "a task of permuted digits: MLP 64-256-256-10, batch 32, 10 passes", rows)
    elif typed.what == "data":
        show(
            console,
            "preparing batches beside the training step of the plain model",
            bench_data.measure(rounds=typed.rounds),
        )
    else:
        show(console, "adapters in the main job's model", bench_adapters.measure(adapters, rounds=typed.rounds))


def shipped(group: str) -> list[str]:
    """The options of a group that come with ttt."""
    folder = files("ttt.conf") / group
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def _listed(parser: argparse.ArgumentParser, option: str, typed: str | None, *, allowed: Iterable[str]) -> list[str]:
    """Names with commas, each one of `allowed`; None: all."""
    from ttt.config.messages import suggest

    names = list(allowed) if typed is None else typed.split(",")
    for name in names:
        if name not in allowed:
            parser.error(f"{option} {name}: {suggest(name, allowed)}")
    return names


def paired(sides: dict[str, Callable[[], None]], *, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each side in each round; the order turns around from round to round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for call in sides.values():
        call()
    for i in range(rounds):
        for name in list(sides) if i % 2 == 0 else reversed(list(sides)):
            start = time.process_time()
            sides[name]()
            seconds[name].append(time.process_time() - start)
    return seconds


def ratio(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """Minimum, median and maximum over rounds of one side over the other."""
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    return ratios[0], statistics.median(ratios), ratios[-1]


def harness_table(seconds: dict[str, list[float]]) -> Table:
    shown = Table("side", "median s", "over bare (min, median, max)", title="the main job's training steps", box=None)
    for name, times in seconds.items():
        low, middle, high = ratio(times, seconds["bare"])
        shown.add_row(name, f"{statistics.median(times):.3f}", f"{low:.3f} {middle:.3f} {high:.3f}")
    return shown


def show(console: Console, title: str, rows: Iterable[Row]) -> None:
    """A line as soon as it is measured: minutes pass between them, and a user who stops keeps what there is."""
    console.print(title)
    widths: dict[str, int] = {}
    for row in rows:
        if not widths and "why not" not in row:
            widths = {name: WIDE.get(name, max(len(name), 8)) for name in row}
            console.print("  ".join(name.rjust(width) for name, width in widths.items()), soft_wrap=True)
        if "why not" in row:
            console.print(" ".join(str(value) for value in row.values()), soft_wrap=True)
            continue
        cells = {name: f"{value:.2f}" if isinstance(value, float) else str(value) for name, value in row.items()}
        console.print("  ".join(cells.get(name, "").rjust(width) for name, width in widths.items()), soft_wrap=True)


if __name__ == "__main__":
    main()
