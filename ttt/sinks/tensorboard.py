"""`logger=tensorboard`: event files in tensorboard/ of the run folder.

`tensorboard --logdir outputs` shows all runs. TensorBoard has a single integer axis. So each family
of metrics is drawn along its own axis (steps for `train`, tasks for `eval`); tokens and seconds are
curves over steps. Its relative time is that of the stream.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping

from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import Past, RunInfo, require
from ttt.sinks.flat import flat
from ttt.sinks.numbers import FAMILIES, axis_values, event_numbers
from ttt.sinks.summary import pictures, summary


class TensorboardSink:
    """Write scalars as events come, and at the end R as pictures and the hyperparameters."""

    def __init__(self, *, name: str) -> None:
        require("tensorboard", logger=name)
        self.name = name

    def start(self, run: RunInfo, *, past: Past) -> None:
        from omegaconf import OmegaConf
        from torch.utils.tensorboard import SummaryWriter

        self._folder = run.folder / "tensorboard"
        # A resumed run repeats its past, and TensorBoard would show both copies.
        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer = SummaryWriter(str(self._folder))
        self._began = time.time()
        self._config = flat(run.config)
        self._writer.add_text("config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(run.config))}```")
        self._writer.add_text("run", f"{run.group}, id {run.id}")

    def __call__(self, event: Event) -> None:
        at = axis_values(event)
        shown = event_numbers(event)
        places = {name: at[FAMILIES[name.split("/")[0]]] for name in shown}
        for axis in ("axis/tokens", "axis/task", "axis/seconds"):
            shown[axis], places[axis] = at[axis], at["axis/step"]
        # Wall times are those of the stream: a resumed run writes hours of events within a second.
        for name, value in shown.items():
            self._writer.add_scalar(name, value, int(places[name]), walltime=self._began + event.seconds)

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        if exit_code == 0:
            last = len(results.rows) - 1
            for mode, picture in pictures(results):
                # TensorBoard has no transparency.
                self._writer.add_image(f"R/{mode}/loss", picture[..., :3], last, dataformats="HWC")
            # Without a name, TensorBoard would file the hyperparameters as a run beside this one.
            self._writer.add_hparams(self._config, summary(results, numbers), run_name=".")
        self._writer.close()
        return f"TensorBoard: tensorboard --logdir {self._folder}"
