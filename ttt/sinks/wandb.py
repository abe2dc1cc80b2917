"""`logger=wandb`: Weights & Biases, online for those who are logged in, else offline.

Runs of a sweep compare by themselves: project = `logger.project`, group = method and stream, name = group
and seed, id = hash of the config. Axes are metrics of their own (`axis/step`, `axis/tokens`, `axis/task`,
`axis/seconds`), because points whose `step=` goes back are dropped.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ttt.events import Evaluated, Event, Trained
from ttt.metrics.matrix import METRICS
from ttt.results import Results
from ttt.sinks.base import RunInfo

if TYPE_CHECKING:
    import wandb

AXES = ("axis/step", "axis/tokens", "axis/task", "axis/seconds")
HEADLINE = ("loss", "loss_late", "accuracy", "accuracy_late")
INIT_SECONDS = 20


class WandbSink:
    def __init__(self, *, name: str, project: str, mode: str) -> None:
        if mode not in ("auto", "online", "offline"):
            raise ValueError(f"logger.mode={mode}: must be one of auto, online, offline")
        self.name = name
        self._project, self._mode = project, mode

    def start(self, run: RunInfo) -> None:
        import wandb

        mode = self._mode
        if mode == "auto":
            mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")
        try:
            self._run = self._init(run, mode)
        except (wandb.errors.CommError, wandb.errors.UsageError):
            # No server in reach: measure now, sync later.
            self._run = self._init(run, "offline")
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("train/*", step_metric="axis/step")
        self._run.define_metric("eval/*", step_metric="axis/task")
        self._run.define_metric("fast_weights/*", step_metric="axis/task")

    def _init(self, run: RunInfo, mode: str) -> wandb.Run:
        import wandb

        settings = wandb.Settings(
            console="off", silent=True, init_timeout=INIT_SECONDS, x_disable_stats=True, disable_git=True
        )
        return wandb.init(
            project=self._project,
            group=run.group,
            job_type="train",
            name=run.name,
            id=run.id,
            tags=list(run.tags),
            config=run.config,
            dir=run.folder,
            mode=mode,  # type: ignore[arg-type]
            resume="allow" if mode == "online" else None,
            settings=settings,
        )

    def __call__(self, event: Event) -> None:
        if isinstance(event, Trained):
            if event.task > 0:
                axes = dict(zip(AXES, (event.step, event.tokens, event.task, event.seconds), strict=True))
                numbers = {"train/loss": event.loss, "train/tokens_per_second": event.tokens_per_second}
                self._run.log(axes | numbers)
        else:
            axes = dict(zip(AXES, (event.step, event.tokens, event.row, event.seconds), strict=True))
            self._run.log(axes | _evaluation(event))

    def finish(self, results: Results, *, exit_code: int) -> str | None:
        if exit_code == 0:
            self._summarize(results)
        offline, folder = self._run.settings._offline, self._run.settings.sync_dir
        where = f"W&B: offline; to upload: wandb sync {folder}" if offline else f"W&B: {self._run.url}"
        self._run.finish(exit_code=exit_code)
        return where

    def _summarize(self, results: Results) -> None:
        import wandb

        from ttt.figures.heat import heat, pixels

        for name, value in results.metrics().items():
            mode, quantity, metric = name.split("/")
            if quantity in HEADLINE and (metric in METRICS or mode == "fast_gain"):
                self._run.summary[name] = value
        tables: dict[str, Any] = {}
        for mode in results.modes:
            r = results.matrix(mode, "loss")
            columns: list[str | int] = ["after task", *(f"{j + 1} {name}" for j, name in enumerate(results.tasks))]
            tables[f"R/{mode}/loss"] = wandb.Table(
                columns=columns, data=[[i, *row] for i, row in enumerate(r.tolist())]
            )
            tables[f"R/{mode}/loss_picture"] = wandb.Image(pixels(heat(r, title=f"loss in bits, mode {mode}")))
        self._run.log(tables)


def _evaluation(event: Evaluated) -> dict[str, float]:
    """Means over tasks learned so far and over all, the task just learned, and the base."""
    numbers = {f"fast_weights/{name}": value for name, value in event.diagnostics.items()}
    for mode, quantities in event.tasks.items():
        for quantity in HEADLINE:
            values = quantities[quantity]
            if event.base is not None:
                # Only in full rows: a mean over what happened to be measured would be no mean over all.
                numbers[f"eval/{mode}/{quantity}/base"] = event.base[mode][quantity][0]
                numbers[f"eval/{mode}/{quantity}/all"] = sum(values) / len(values)
            seen = [value for j, value in zip(event.columns, values, strict=True) if j in event.seen]
            if event.seen and len(seen) == len(event.seen):
                numbers[f"eval/{mode}/{quantity}/seen"] = sum(seen) / len(seen)
            if event.current is not None:
                numbers[f"eval/{mode}/{quantity}/current"] = values[event.columns.index(event.current)]
    return numbers
