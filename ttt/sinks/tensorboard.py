"""`logger=tensorboard`: event files in tensorboard/ of the run folder; `tensorboard --logdir outputs` shows all runs.

TensorBoard knows one integer axis, so each family of metrics stands along its own (steps for `train`, tasks for
`eval`), tokens and seconds are curves over steps, and its relative time is that of the stream.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import RunInfo, require
from ttt.sinks.numbers import FAMILIES, axes, finite, numbers


class TensorboardSink:
    def __init__(self, *, name: str) -> None:
        require("tensorboard", logger=name)
        self.name = name

    def start(self, run: RunInfo) -> None:
        from omegaconf import OmegaConf
        from torch.utils.tensorboard import SummaryWriter

        self._folder = run.folder / "tensorboard"
        # A resumed run tells again what was before.
        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer = SummaryWriter(str(self._folder))
        self._began = time.time()
        self._config = flat(run.config)
        self._writer.add_text("config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(run.config))}```")
        self._writer.add_text("run", f"{run.group}, id {run.id}")

    def __call__(self, event: Event) -> None:
        at = axes(event)
        shown = numbers(event)
        places = {name: at[FAMILIES[name.split("/")[0]]] for name in shown}
        for axis in ("axis/tokens", "axis/task", "axis/seconds"):
            shown[axis], places[axis] = at[axis], at["axis/step"]
        for name, value in shown.items():
            self._writer.add_scalar(name, value, int(places[name]), walltime=self._began + event.seconds)

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        if exit_code == 0:
            from ttt.figures.heat import heat, pixels

            for mode in results.modes:
                picture = pixels(heat(results.matrix(mode, "loss"), title=f"loss in bits, mode {mode}"))
                self._writer.add_image(f"R/{mode}/loss", picture[..., :3], len(results.rows) - 1, dataformats="HWC")
            summary = finite(results.metrics()) | {f"cost/{name}": value for name, value in numbers.items()}
            # A run of its own by default: here it is the run.
            self._writer.add_hparams(self._config, summary, run_name=".")
        self._writer.close()
        return f"TensorBoard: tensorboard --logdir {self._folder}"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """`group.key` -> value, as one would type it; what is no plain value becomes text."""
    values: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[prefix + str(key)] = value if isinstance(value, str | int | float) else str(value)
    return values
