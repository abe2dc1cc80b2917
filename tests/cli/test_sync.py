"""`ttt-run sync`: a tracker gets from the folder of a run what it would have got live, once."""

from __future__ import annotations

import shutil

import pytest
from commands import assert_refused
from event_files import scalars
from harness import FAST, TINY, only_run, run_here

from ttt.storage.lock import Lock
from ttt.storage.run_folder import RunFolder

TRACKED = [*(word for word in TINY if not word.startswith("logger")), *FAST]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    where = tmp_path_factory.mktemp("live")
    assert run_here([*TRACKED, "logger=csv", "eval.anytime=2"], where).code == 0
    return where


@pytest.fixture
def run(live, tmp_path):
    shutil.copytree(live / "outputs", tmp_path / "outputs")
    return only_run(tmp_path)


def test_it_rebuilds_what_the_tracker_had(live, run):
    before = {file.name: file.read_bytes() for file in (run / "csv").iterdir()}
    (run / "csv" / "train.csv").write_text("damaged")
    for _ in range(2):
        outcome = run_here(["sync", str(run)], live)
        assert outcome.code == 0
        assert outcome.out.startswith(f"{run}: CSV: ")
        assert {file.name: file.read_bytes() for file in (run / "csv").iterdir()} == before


def test_another_tracker_shows_every_point_once(run):
    for _ in range(2):
        assert run_here(["sync", str(run), "--logger", "tensorboard"], run).code == 0
    points = scalars(run / "tensorboard")
    assert [step for step, _ in points["train/loss"]] == [3, 6, 9]
    assert len(points["fast/loss/avg_final"]) == 1


def test_what_cannot_be_shown_is_one_line(run, tmp_path):
    assert_refused(run_here(["sync", str(run), "--logger", "tensorbord"], tmp_path), "tensorbord", "tensorboard?")
    assert_refused(run_here(["sync", "nowhere"], tmp_path), "nowhere")
    config = RunFolder(run).config
    config.write_text(
        config.read_text().replace("ttt.sinks.csv.CsvSink\n  name: csv", "ttt.sinks.none.NoSink\n  name: none")
    )
    assert_refused(run_here(["sync", str(run)], tmp_path), "logger=none", "--logger csv")
    lock = Lock(run / "lock")
    lock.take()
    try:
        assert_refused(run_here(["sync", str(run), "--logger", "csv"], tmp_path), "is running")
    finally:
        lock.release()
    RunFolder(run).results.unlink()
    assert_refused(run_here(["sync", str(run), "--logger", "csv"], tmp_path), "not done")


def test_weights_can_be_sent_later_and_settings_that_came_later_have_their_default(run, tmp_path):
    config = run / "config.yaml"
    assert "name: csv" in config.read_text()
    # A run of a version whose wandb had no weights.
    text = config.read_text().replace("name: csv", "name: wandb")
    config.write_text(text.replace("ttt.sinks.csv.CsvSink", "ttt.sinks.wandb.WandbSink"))
    assert run_here(["sync", str(run), "--weights", "final"], tmp_path).code == 0
    assert list((run / "wandb").glob("offline-run-*"))
    refused = run_here(["sync", str(run), "--weights", "last"], tmp_path)
    assert_refused(refused, 'logger.weights=["last"]', "base, final")
    assert_refused(run_here(["sync", str(run), "--logger", "csv", "--weights", "final"], tmp_path), "logger.weights")
