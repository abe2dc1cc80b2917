"""R as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from ttt.figures import style
from ttt.metrics.matrix import Matrix

# A label for each of more rows or columns would be a black bar.
LABELS = 20
# Blue to yellow, even in lightness: readable in grey and by the colour-blind.
COLORMAP = "cividis"


def heat(r: Matrix, *, title: str) -> Axes:
    """A row after each phase, a column for each task; what was not measured stays empty."""
    axes = style.axes(width=7, height=6)
    picture = axes.imshow(r, cmap=COLORMAP, aspect="auto")
    axes.set(xlabel="evaluated on task", ylabel="after learning task", title=title)
    columns, rows = (range(0, size, -(-size // LABELS)) for size in (r.shape[1], r.shape[0]))
    axes.set_xticks(columns, [str(j + 1) for j in columns])
    axes.set_yticks(rows, [str(i) if i else "before" for i in rows])
    axes.figure.colorbar(picture)
    return axes


def pixels(axes: Axes) -> NDArray[np.uint8]:
    """A picture as numbers [height, width, 4], for trackers."""
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
