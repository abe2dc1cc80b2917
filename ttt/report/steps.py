"""Pictures over the batches of one run: training loss and speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from ttt.figures.bands import TICKS, Band, bands
from ttt.report.parts import Picture, picture
from ttt.report.record import Json, Record
from ttt.report.text import thin, tick

# Points of a line: more would be closer than pixels in a picture of this width.
POINTS = 400


def training_curve(record: Record) -> Picture:
    """Draw the training loss; for a policy its reward instead.

    A policy's loss is a surrogate with the right gradient, and its value means nothing.
    """
    name, unit, values = "loss", "bits per token", [e["loss"] for e in record.trained]
    # Only policies report rewards.
    if all("reward" in e["terms"] for e in record.trained):
        name, unit, values = "reward", "share", [e["terms"]["reward"] for e in record.trained]
    steps, means = binned([e["step"] for e in record.trained], values)
    caption = f"{name.capitalize()} on the batches it learned from ({unit}); thin lines where a task ends."
    caption += binning_note(means, len(record.trained))
    draw = partial(along_steps, record, [Band("training", steps, means)], ylabel=f"{name} ({unit})")
    return picture(draw, name="training-loss", title=f"Training {name}", caption=caption)


def throughput_curve(record: Record) -> Picture:
    steps, speed = binned([e["step"] for e in record.trained], [e["tokens_per_second"] for e in record.trained])
    caption = "Tokens per second of training alone, without evaluation." + binning_note(speed, len(record.trained))
    draw = partial(along_steps, record, [Band("training", steps, speed)], ylabel="tokens per second", bottom=0)
    return picture(draw, name="throughput", title="Training speed", caption=caption)


def along_steps(record: Record, lines: Sequence[Band], *, ylabel: str, bottom: float | None = None) -> Axes:
    """Draw lines over batches, with the names of tasks where they were learned."""
    ends = phase_ends(record.trained)
    edges = [0.0, *ends]
    boundaries = [ends[k] for k in thin(len(ends), to=POINTS // 4)]
    # The last boundary is the end of the stream: no task begins there.
    axes = bands(lines, xlabel="", ylabel=ylabel, boundaries=boundaries[:-1])
    names = list({e["task"]: e["task_name"] for e in record.trained}.values())
    picked = thin(len(ends), to=TICKS)
    # A name stands in the middle of its phase.
    middles = [(edges[k] + edges[k + 1]) / 2 for k in picked]
    axes.set_xticks(middles, [tick(names[k]) for k in picked], rotation=30, ha="right")
    axes.set_ylim(bottom=bottom)
    return axes


def phase_ends(trained: Sequence[Json]) -> list[float]:
    """Return the last step that each phase reported."""
    # Later events of a phase replace earlier ones.
    last = {event["task"]: float(event["step"]) for event in trained}
    return list(last.values())


def binned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return at most POINTS points: means of `y` over blocks, each at the last x of its block."""
    # The size is rounded up, so that there are never more than POINTS blocks.
    size = max(1, math.ceil(len(x) / POINTS))
    blocks = [slice(k, k + size) for k in range(0, len(x), size)]
    return [float(x[block][-1]) for block in blocks], [float(np.mean(y[block])) for block in blocks]


def binning_note(points: Sequence[float], count: int) -> str:
    return f" {len(points)} points, each a mean over neighbours of {count:,}." if len(points) < count else ""
