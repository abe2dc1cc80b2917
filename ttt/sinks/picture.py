"""R as a picture."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from ttt.metrics.matrix import Matrix


def draw_matrix(r: Matrix, *, title: str) -> Image.Image:
    """Heat map: a row after each task, a column for each task; left of the staircase is the past."""
    # A figure of its own, without pyplot: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(r, cmap="cividis", aspect="auto")
    axes.set(xlabel="evaluated on task", ylabel="after learning task", title=title)
    axes.set_xticks(range(r.shape[1]), [str(j + 1) for j in range(r.shape[1])])
    axes.set_yticks(range(r.shape[0]), ["before", *(str(i + 1) for i in range(r.shape[1]))])
    figure.colorbar(picture)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(BytesIO(buffer.getvalue()))
