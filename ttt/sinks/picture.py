"""R as a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ttt.metrics.matrix import Matrix


def draw_matrix(r: Matrix, *, title: str) -> NDArray[np.uint8]:
    """Heat map as pixels [height, width, 4]: a row after each task, a column for each task."""
    # A figure of its own, without pyplot: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(r, cmap="cividis", aspect="auto")
    axes.set(xlabel="evaluated on task", ylabel="after learning task", title=title)
    # With many tasks a label each would be a black bar.
    columns, rows = (range(0, size, -(-size // 20)) for size in (r.shape[1], r.shape[0]))
    axes.set_xticks(columns, [str(j + 1) for j in columns])
    axes.set_yticks(rows, [str(i) if i else "before" for i in rows])
    figure.colorbar(picture)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
