"""What every tracker shows of a finished run: its metrics and costs, and R as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ttt.results import catalogue
from ttt.results.results import Results
from ttt.sinks.numbers import finite


def summary(results: Results, costs: Mapping[str, float]) -> dict[str, float]:
    """Return all metrics that have a value, and what the run cost as `cost/NAME`."""
    return finite(catalogue.metrics(results)) | {f"cost/{name}": value for name, value in costs.items()}


def pictures(results: Results) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield each mode with R of its losses as an image [height, width, RGBA]."""
    # Matplotlib takes its time, and a run that is stopped draws nothing.
    from ttt.figures.heat import heat, pixels

    for mode in results.modes:
        yield mode, pixels(heat(results.matrix(mode, "loss"), title=f"loss in bits, mode {mode}"))
