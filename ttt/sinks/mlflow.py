"""`logger=mlflow`: MLflow, on a server or in a file of this machine.

    mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db

A run has one integer axis there; so each family of metrics is drawn along its own axis (steps for
`train`, tasks for `eval`), as in TensorBoard. MLflow gives a run an id of its own; the tag `ttt.id`
finds it again. The tag `ttt.events` counts the events that it has: a resumed run repeats all, and
the sink skips so many.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from ttt.results.events import Event, Trained
from ttt.results.results import Results
from ttt.sinks.base import Past, RunInfo, require
from ttt.sinks.flat import flat
from ttt.sinks.numbers import FAMILIES, axis_values, event_numbers
from ttt.sinks.summary import pictures, summary
from ttt.storage.run_folder import RunFolder

ID, EVENTS = "ttt.id", "ttt.events"
# In output_dir, where no address is typed.
FILE = "mlflow.db"
# MLflow takes so many metrics, or parameters, at a time, and so long a value.
METRICS, PARAMETERS, LENGTH = 1000, 100, 6000
# Events of training that are sent together.
TOGETHER = 20


class MlflowSink:
    """Log every event to one run of MLflow; at the end the summary, R as pictures and the page."""

    def __init__(self, *, name: str, project: str, uri: str | None) -> None:
        require("mlflow", logger=name)
        self.name = name
        self._project, self._uri = project, uri

    def start(self, run: RunInfo, *, past: Past) -> None:
        from mlflow.tracking import MlflowClient

        # The screen belongs to the run: MLflow would tell how it makes its tables. Its import sets
        # the level as well.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._folder, place = run.folder, Path(run.config["output_dir"]).expanduser().absolute()
        self._where = self._uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place / FILE}"
        # Runs of a sweep start together, and only one can make the file and the experiment.
        with FileLock(place / f".{FILE}.lock"):
            self._client = MlflowClient(self._where)
            project = self._client.get_experiment_by_name(self._project)
            # Beside a file, MLflow would keep artifacts in the current folder.
            artifacts = (place / "mlflow-artifacts").as_uri() if self._where.startswith("sqlite:") else None
            experiment = project.experiment_id if project else self._client.create_experiment(self._project, artifacts)
            runs = self._client.search_runs([experiment], f"tags.`{ID}` = '{run.id}'")
            self._run = runs[0] if runs else self._create(run, experiment)
        self._client.update_run(self._run.info.run_id, status="RUNNING")
        self._count, self._to_skip = 0, int(self._run.data.tags.get(EVENTS, 0))
        self._waiting: list[Any] = []

    def __call__(self, event: Event) -> None:
        at = axis_values(event)
        shown = event_numbers(event)
        places = {name: at[FAMILIES[name.split("/")[0]]] for name in shown}
        for axis in ("axis/tokens", "axis/task", "axis/seconds"):
            shown[axis], places[axis] = at[axis], at["axis/step"]
        self._add(shown, places, seconds=event.seconds)
        if not isinstance(event, Trained) or self._count % TOGETHER == 0:
            self._send()

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        run_id = self._run.info.run_id
        if exit_code == 0:
            self._add(summary(results, numbers), {}, seconds=numbers.get("seconds", 0.0))
            for mode, picture in pictures(results):
                self._client.log_image(run_id, picture, f"R/{mode}-loss.png")
            page = RunFolder(self._folder).report
            if page.is_file():
                self._client.log_artifact(run_id, str(page))
        self._send()
        self._client.set_terminated(run_id, status="FAILED" if exit_code else "FINISHED")
        return f"MLflow: mlflow ui --backend-store-uri {self._where}"

    def _create(self, run: RunInfo, experiment: str) -> Any:
        """Start a run of MLflow with the config of ours."""
        from mlflow.entities import Param

        names = {ID: run.id, "ttt.group": run.group, "ttt.tags": " ".join(run.tags)}
        created = self._client.create_run(experiment, run_name=run.name, tags=names)
        parameters = [Param(name, str(value)[:LENGTH]) for name, value in flat(run.config).items()]
        for first in range(0, len(parameters), PARAMETERS):
            self._client.log_batch(created.info.run_id, params=parameters[first : first + PARAMETERS])
        return created

    def _add(self, shown: Mapping[str, float], places: Mapping[str, float], *, seconds: float) -> None:
        """Take the numbers of one event, unless the run has them."""
        from mlflow.entities import Metric

        self._count += 1
        if self._count > self._to_skip:
            # Times are those of the stream: a resumed run writes hours of events within a second.
            time = self._run.info.start_time + int(1000 * seconds)
            self._waiting += [Metric(name, value, time, int(places.get(name, 0))) for name, value in shown.items()]

    def _send(self) -> None:
        """Send what waits. The count goes last: a point sent twice is stored once, none is lost."""
        from mlflow.entities import RunTag

        for first in range(0, len(self._waiting), METRICS):
            self._client.log_batch(self._run.info.run_id, self._waiting[first : first + METRICS])
        if self._waiting:
            self._client.log_batch(self._run.info.run_id, tags=[RunTag(EVENTS, str(self._count))])
        self._waiting = []
