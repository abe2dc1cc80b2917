"""Pictures of what R does not show: losses inside tasks, hidden units, ranks, norms, and drift."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from ttt.config.visible import visible
from ttt.figures.bands import Band, bands
from ttt.metrics.curves import Curves
from ttt.report.parts import Picture, picture
from ttt.report.record import Record
from ttt.report.steps import POINTS
from ttt.report.text import thin
from ttt.results import catalogue

# Lines of a picture, and characters of a task's name in its legend.
LINES, NAME = 6, 20
# name: (title, label of a line -> its metric, caption)
PLASTICITY = {
    "dormant-units": (
        "Dormant units",
        {
            "at most a tenth of the mean": "slow/plasticity/dormant_tau0.1",
            "silent": "slow/plasticity/dormant_tau0",
        },
        "Share of hidden units that hardly answer to the probe batch, mean over layers: mean "
        "activity at most a tenth of that of their layer (tau 0.1), and none at all. Lower is "
        "better.",
    ),
    "effective-rank": (
        "Effective rank",
        {"hidden units": "slow/plasticity/erank", "fast matrices": "carried/plasticity/erank"},
        "exp of the entropy of the singular values: of hidden units on the probe batch (not "
        "centred, after the nonlinearity), and of the carried fast matrices; mean over layers.",
    ),
    "weight-norm": (
        "Norm of the slow weights",
        {"all slow weights": "slow/plasticity/weight_l2"},
        "Euclidean norm of all slow weights together.",
    ),
    "gradient-norm": (
        "Gradient on the probe batch",
        {"all slow weights": "slow/plasticity/grad_l2"},
        "Euclidean norm of the gradient of the loss on the probe batch, before clipping.",
    ),
    "drift": (
        "Drift from the base",
        {"mode slow": "slow/drift/kl_base", "mode fast": "fast/drift/kl_base"},
        "KL divergence of the model's predictions from those of the base, on the base distribution.",
    ),
}


def anytime_pictures(record: Record) -> Iterator[Picture]:
    """Draw each task's loss over batches, if there were evaluations inside tasks."""
    results = record.seen
    if not results.points or len(results.rows) < 2:
        return
    curves = results.curves(record.main_mode, "loss")
    # A task that comes back gets one line.
    taught = list(dict.fromkeys(curves.taught))
    tasks = [taught[k] for k in thin(len(taught), to=LINES)]
    lines = [_loss_line(curves, task, name=results.tasks[task]) for task in tasks]
    caption = (
        f"Mode {record.main_mode}, measured every {results.every} steps from where a task begins "
        "to be learned; thin lines where a task ends. A rise just behind one of them that goes "
        "away again is the stability gap."
    )
    if len(tasks) < len(taught):
        caption += f" {len(tasks)} of {len(taught)} tasks, evenly chosen."
    draw = partial(_over_steps, lines, [float(n) for n in curves.ends[1:-1]])
    title = "Loss of each task, inside tasks too"
    yield picture(draw, name="anytime", title=title, caption=caption)


def _loss_line(curves: Curves, task: int, *, name: str) -> Band:
    """One task's loss, from the start of the phase that taught it."""
    # Losses before that phase are high and would only stretch the axis.
    since = curves.times >= curves.ends[curves.learned_in()[task] - 1]
    measured = np.flatnonzero(since & ~np.isnan(curves.values[:, task]))
    picked = measured[thin(len(measured), to=POINTS)]
    # Curves count higher as better: their values are negative losses.
    losses = (-curves.values[picked, task]).tolist()
    return Band(visible(name)[:NAME].replace("$", r"\$"), curves.times[picked].tolist(), losses)


def _over_steps(lines: list[Band], ends: list[float]) -> Axes:
    boundaries = [ends[k] for k in thin(len(ends), to=POINTS // 4)] if ends else []
    ylabel = "loss (bits per token)"
    return bands(lines, xlabel="batches", ylabel=ylabel, boundaries=boundaries)


def plasticity_pictures(record: Record) -> Iterator[Picture]:
    """Draw a picture for each kind of diagnostic that was measured, with a line for each metric."""
    for name, (title, metrics, caption) in PLASTICITY.items():
        lines = []
        for label, metric in metrics.items():
            # Without fast weights mode fast is mode slow: the line would be drawn twice.
            if label == "mode fast" and not record.has_fast:
                continue
            values = catalogue.after_each_row(record.results, metric)
            picked = thin(len(values), to=POINTS) if values else []
            if any(math.isfinite(values[k]) for k in picked):
                lines.append(Band(label, [float(k) for k in picked], [values[k] for k in picked]))
        if lines:
            draw = partial(bands, lines, xlabel="tasks learned", ylabel=catalogue.unit_of(next(iter(metrics.values()))))
            yield picture(draw, name=name, title=title, caption=caption)
