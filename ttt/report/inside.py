"""What rows of R do not show: the loss of tasks inside other tasks, hidden units, ranks, norms, and drift."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from ttt.figures.bands import Band, bands
from ttt.report.parts import Picture, picture
from ttt.report.record import Record
from ttt.report.text import clean, thin
from ttt.results import catalogue as derived

# Points of a line, and lines in a picture.
POINTS, LINES = 400, 6
# Title, unit, metrics by the label of their line, and what it is.
PLASTICITY = {
    "dormant-units": (
        "Dormant units",
        "share of units",
        {"at most a tenth of the mean": "slow/plasticity/dormant_tau0.1", "silent": "slow/plasticity/dormant_tau0"},
        "Share of hidden units that hardly answer to the probe batch, mean over layers: mean activity at most a tenth "
        "of that of their layer (tau 0.1), and none at all. Lower is better.",
    ),
    "effective-rank": (
        "Effective rank",
        "effective rank",
        {"hidden units": "slow/plasticity/erank", "fast matrices": "carried/plasticity/erank"},
        "exp of the entropy of the singular values: of hidden units on the probe batch (not centred, after the "
        "nonlinearity), and of the carried fast matrices; mean over layers.",
    ),
    "weight-norm": (
        "Norm of the slow weights",
        "norm",
        {"all slow weights": "slow/plasticity/weight_l2"},
        "Euclidean norm of all slow weights together.",
    ),
    "gradient-norm": (
        "Gradient on the probe batch",
        "norm",
        {"all slow weights": "slow/plasticity/grad_l2"},
        "Euclidean norm of the gradient of the loss on the probe batch, before clipping.",
    ),
    "drift": (
        "Drift from the base",
        "bits per token",
        {"mode slow": "slow/drift/kl_base", "mode fast": "fast/drift/kl_base"},
        "KL divergence of the model's predictions from those of the base, on the base distribution.",
    ),
}


def anytime(record: Record) -> Iterator[Picture]:
    """The loss of each task over optimizer steps; nothing without evaluations inside tasks."""
    results = record.seen
    if not results.points or len(results.rows) < 2:
        return
    curves = derived.curves_of(results, record.main_mode, "loss")
    tasks = [list(dict.fromkeys(curves.taught))[k] for k in thin(len(set(curves.taught)), to=LINES)]
    lines = []
    for task in tasks:
        since = curves.times >= curves.ends[curves.learned_in()[task] - 1]
        known = np.flatnonzero(since & ~np.isnan(curves.values[:, task]))
        picked = known[thin(len(known), to=POINTS)]
        x, y = curves.times[picked].tolist(), (-curves.values[picked, task]).tolist()
        lines.append(Band(clean(results.tasks[task])[:20].replace("$", r"\$"), x, y))
    caption = (
        f"Mode {record.main_mode}, measured every {results.every} steps from where a task begins to be learned; thin "
        "lines where a task ends. A rise just behind one of them that goes away again is the stability gap."
    )
    if len(tasks) < len(set(curves.taught)):
        caption += f" {len(tasks)} of {len(set(curves.taught))} tasks, evenly chosen."
    draw = partial(_over_steps, lines, [float(n) for n in curves.ends[1:-1]])
    yield picture(draw, name="anytime", title="Loss of each task, inside tasks too", caption=caption)


def _over_steps(lines: list[Band], ends: list[float]) -> Axes:
    shown = [ends[k] for k in thin(len(ends), to=POINTS // 4)] if ends else []
    return bands(lines, xlabel="optimizer steps", ylabel="loss (bits per token)", boundaries=shown)


def plasticity(record: Record) -> Iterator[Picture]:
    """A picture for each kind that was measured, a line for each metric."""
    for name, (title, unit, metrics, caption) in PLASTICITY.items():
        lines = []
        for label, metric in metrics.items():
            if label == "mode fast" and not record.has_fast:
                continue
            values = derived.series(record.results, metric)
            picked = thin(len(values), to=POINTS) if values else []
            if any(math.isfinite(values[k]) for k in picked):
                lines.append(Band(label, [float(k) for k in picked], [values[k] for k in picked]))
        if lines:
            draw = partial(bands, lines, xlabel="tasks learned", ylabel=unit)
            yield picture(draw, name=name, title=title, caption=caption)
