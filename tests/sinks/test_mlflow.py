"""`logger=mlflow`: every number on its axis, each once, in a file that needs no server."""

from __future__ import annotations

import pytest
from sample_events import EVENTS

from ttt.sinks.base import RunInfo
from ttt.sinks.mlflow import FILE, ID, MlflowSink
from ttt.sinks.numbers import FAMILIES, axis_values, event_numbers

mlflow = pytest.importorskip("mlflow")
# These share a database, which takes seconds to make. MLflow uses what its own libraries deprecate.
pytestmark = [pytest.mark.xdist_group("sinks"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


def shown(outputs, events, *, run_id, past=0):
    """Show `events`, of which a process that was stopped had seen the first ones before."""
    folder = outputs / run_id
    folder.mkdir(exist_ok=True)
    config = {"seed": 0, "output_dir": str(outputs), "task": {"name": "t", "sizes": [1, 2]}}
    run = RunInfo(run_id, "t", "g", "n", ("tag",), config, folder)
    sink = MlflowSink(name="mlflow", project="ttt", uri=None)
    sink.start(run, past=lambda: events[:past])
    for event in events:
        sink(event)
    where = sink.finish(None, numbers={}, exit_code=1)
    assert where is not None
    assert FILE in where


def only_one(outputs, run_id):
    """The one run of MLflow with this id, and its client."""
    client = mlflow.tracking.MlflowClient(f"sqlite:///{outputs / FILE}")
    (run,) = client.search_runs([client.get_experiment_by_name("ttt").experiment_id], f"tags.`{ID}` = '{run_id}'")
    return run, client


def test_every_number_is_on_its_axis(outputs, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shown(outputs, EVENTS, run_id="aa")
    run, client = only_one(outputs, "aa")
    for event in EVENTS:
        at = axis_values(event)
        for name, value in event_numbers(event).items():
            points = {(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)}
            assert (at[FAMILIES[name.split("/")[0]]], value) in points
    assert run.data.params["task.name"] == "t"
    assert run.data.params["task.sizes"] == "[1, 2]"
    assert run.info.artifact_uri.startswith((outputs / "mlflow-artifacts").as_uri())


def test_a_run_that_is_resumed_or_shown_again_has_every_point_once(outputs, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shown(outputs, EVENTS[:8], run_id="bb")
    first = only_one(outputs, "bb")[0].info.run_id
    shown(outputs, EVENTS, run_id="bb", past=5)
    shown(outputs, EVENTS, run_id="bb")
    run, client = only_one(outputs, "bb")
    assert run.info.run_id == first
    steps = [point.step for point in client.get_metric_history(first, "train/loss")]
    assert sorted(steps) == list(range(1, 10))
