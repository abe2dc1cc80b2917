"""ttt-bench: what the harness and the fast weights cost, measured side by side in one run.

    ttt-bench harness     our loop against a bare torch loop that takes the same steps
    ttt-bench kernels     the gated MLP with mlp_fast against the same MLP without

Rounds alternate between the two sides; a ratio is the median over rounds of CPU times (on a GPU: wall).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table


def main() -> None:
    parser = argparse.ArgumentParser(prog="ttt-bench", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["harness", "kernels"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    typed = parser.parse_args()
    import torch

    torch.set_num_threads(typed.threads)
    # Imported here: a wrong argument should not wait for torch.
    from ttt.cli import bench_harness, bench_kernels

    console = Console(highlight=False)
    if typed.what == "harness":
        console.print(harness_table(bench_harness.measure(rounds=typed.rounds)))
    else:
        console.print(kernels_table(bench_kernels.measure(rounds=typed.rounds)))


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
    table = Table("side", "median s", "over bare (min, median, max)", title="the main job's training steps", box=None)
    for name, times in seconds.items():
        low, middle, high = ratio(times, seconds["bare"])
        table.add_row(name, f"{statistics.median(times):.3f}", f"{low:.3f} {middle:.3f} {high:.3f}")
    return table


def kernels_table(rows: list[dict[str, float | str]]) -> Table:
    table = Table(title="gated MLP with mlp_fast over the same MLP without (median of rounds)", box=None)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    main()
