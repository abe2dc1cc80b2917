"""`ttt-probe slow`: a run and its base, both recalibrated for mode slow, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import RenderableType

from ttt.cli.probes.show import decimals, new_table
from ttt.learner import Learner
from ttt.probes.slow import recalibrate
from ttt.results.events import Notice, Trained
from ttt.run.assemble import assemble
from ttt.run.open import OpenedRun, config_to_open, with_defaults
from ttt.storage.read import read_config

# Columns of the table: mode and data.
COLUMNS = ("slow_base", "slow_tasks", "fast_base", "fast_tasks")
Curve = Sequence[dict[str, Any]]


def read_curves(
    run: OpenedRun, *, trusted: Sequence[Path], steps: int, lr: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Recalibrate the run's newest weights and, as the control, its base; return all numbers.

    Raises ValueError for a run whose stream leaves no data for a base distribution.
    """
    stream, path = run.stream, run.folder.path
    if stream.base is None:
        raise ValueError(f"{path}: its stream leaves no class for a base distribution to recalibrate on")
    # Behind the batches that the base was trained on.
    first = int(read_config(path)["base"].get("steps", 0))
    after = f"after task {run.learned}"
    curves = {}
    base = base_of(run, trusted=trusted, progress=progress)
    for name, learner in {"before the stream": base, after: run.learner}.items():
        report = partial(_report, progress, name)
        curves[name] = recalibrate(learner, stream.base, stream.tasks, first=first, steps=steps, lr=lr, progress=report)
    settings = {"adapter": run.adapter, "learned": run.learned, "steps": steps, "lr": lr, "first": first}
    return {"settings": settings, "curves": curves}


def base_of(run: OpenedRun, *, trusted: Sequence[Path], progress: Callable[[str], None]) -> Learner:
    """The learner with the weights from which the run began.

    A base that the cache no longer holds is trained anew, into the cache.
    """
    path = run.folder.path
    config = config_to_open(path)
    config["base"] = with_defaults("base", read_config(path)["base"])
    config["trainer"] |= {"threads": torch.get_num_threads()}
    assembly = assemble(config, trusted=trusted)

    def observe(event: Trained | Notice) -> None:
        if isinstance(event, Trained):
            progress(f"the base is trained anew: step {event.task_step} of {event.task_steps}")

    weights = assembly.base_weights(assembly.settings.fabric(), observe)
    if weights is not None:
        assembly.load(weights)
    return assembly.learner.to(assembly.settings.device())


def _report(progress: Callable[[str], None], name: str, step: int) -> None:
    progress(f"{name}: step {step}")


def show_slow(numbers: dict[str, Any]) -> list[RenderableType]:
    """Tabulate the losses of both by the number of steps, and their difference."""
    settings, (before, after) = numbers["settings"], numbers["curves"].values()
    table = new_table(
        f"adapter={settings['adapter']}; steps on the base's text with writes off (AdamW, lr {settings['lr']:g}),\n"
        "bits per token before the stream, after it, and the drift",
        "steps",
        *(f"{name.replace('_', ' ')}\n{part}" for name in COLUMNS for part in ("before", "after", "drift")),
        left=0,
    )
    for old, new in zip(before, after, strict=True):
        table.add_row(str(old["step"]), *(cell for name in COLUMNS for cell in _cells(old[name], new[name])))
    return [table, *(_verdict(before, after, data) for data in ("base", "tasks"))]


def _cells(old: float, new: float) -> tuple[str, str, str]:
    return decimals(old), decimals(new), f"{new - old:+.3f}"


def _verdict(before: Curve, after: Curve, data: str) -> str:
    """What recalibration takes away of the drift of mode slow."""
    drifts = [after[k][f"slow_{data}"] - before[k][f"slow_{data}"] for k in (0, -1)]
    line = f"drift of mode slow on the {data}: {drifts[0]:+.3f} bits, after {after[-1]['step']} steps {drifts[1]:+.3f}"
    # Without a loss there is no share of it that could be miscalibration.
    if drifts[0] <= 0:
        return line
    # Steps may bring the run below its base, or the base below the run: no share is beyond these.
    return f"{line}: miscalibration is {min(max(1 - drifts[1] / drifts[0], 0), 1):.0%} of it"


def plot_slow(numbers: dict[str, Any]) -> Figure:
    """Plot the losses of mode slow (lines) and fast (dashed) over the steps."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, data in zip(figure.subplots(1, 2), ("base", "tasks"), strict=True):
        for color, (name, curve) in enumerate(numbers["curves"].items()):
            for mode, style in (("slow", "-"), ("fast", "--")):
                y = [row[f"{mode}_{data}"] for row in curve]
                axes.plot([row["step"] for row in curve], y, style, color=f"C{color}", label=f"{mode}, {name}")
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlabel="steps with writes off", ylabel="bits per token", title=f"on the {data}")
    figure.axes[0].legend(fontsize=7)
    return figure
