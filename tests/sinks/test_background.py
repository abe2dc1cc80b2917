"""A tracker runs beside the run: whatever it does, the run waits a bounded time and loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from sample_events import EVENTS, write_journal

from ttt.results.events import Event, as_record
from ttt.results.results import Results
from ttt.results.rows import plain
from ttt.sinks import background
from ttt.sinks.background import Background
from ttt.sinks.base import Past, RunInfo
from ttt.sinks.csv import CsvSink
from ttt.storage.journal import Journal


class Recorder:
    """A sink that notes its calls; each waits for `gate`, and number `failing` raises."""

    name = "recorder"

    def __init__(self, *, failing: int | None = None) -> None:
        self.gate, self.failing = threading.Event(), failing
        self.gate.set()
        self.calls: list[object] = []
        self.threads: set[int] = set()

    def start(self, run: RunInfo, *, past: Past) -> None:
        self._note("start")

    def __call__(self, event: Event) -> None:
        self._note(event)

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        self._note("finish")
        return f"exit {exit_code}"

    def _note(self, call: object) -> None:
        self.gate.wait()
        if len(self.calls) == self.failing:
            raise OSError("no server\nsecond line")
        self.calls.append(call)
        self.threads.add(threading.get_ident())


@pytest.fixture
def run(tmp_path):
    return RunInfo("1234", "t", "g", "n", (), {}, tmp_path)


def publish(file: Path, events: Iterable[Event]) -> None:
    there = file.stat().st_size if file.exists() else 0
    with closing(Journal(file, position=there)) as journal:
        for event in events:
            journal(event)


def records(events: Iterable[object]) -> list[object]:
    """Events as they are on the disk, where NaN is null and equal to itself."""
    return [plain(as_record(event)) if isinstance(event, Event) else event for event in events]


def test_a_sink_gets_every_event_once_in_order_from_one_other_thread(run, tmp_path):
    sink, file = Recorder(), tmp_path / "metrics.jsonl"
    write_journal(file, EVENTS[:4])
    behind = Background(sink, journal=file)
    behind.start(run)
    publish(file, EVENTS[4:])
    assert behind.finish(None, numbers={}, exit_code=0) == "exit 0"
    assert records(sink.calls) == ["start", *records(EVENTS), "finish"]
    assert len(sink.threads) == 1
    assert threading.get_ident() not in sink.threads


def test_a_sink_hears_of_events_while_the_run_goes_on(run, tmp_path, monkeypatch):
    monkeypatch.setattr(background, "PAUSE", 0.01)
    sink, file = Recorder(), tmp_path / "metrics.jsonl"
    behind = Background(sink, journal=file)
    behind.start(run)
    for event in EVENTS[:3]:
        publish(file, [event])
        deadline = time.monotonic() + 20
        while records(sink.calls)[-1:] != records([event]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    behind.finish(None, numbers={}, exit_code=0)
    assert records(sink.calls) == ["start", *records(EVENTS[:3]), "finish"]


def test_a_sink_that_hangs_takes_bounded_time_and_catches_up(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(background, "WARM_UP", 0.0)
    monkeypatch.setattr(background, "LEAST", 0.1)
    sink, file = Recorder(), tmp_path / "metrics.jsonl"
    sink.gate.clear()
    behind = Background(sink, journal=file)
    began = time.monotonic()
    behind.start(run)
    publish(file, EVENTS)
    assert behind.finish(None, numbers={}, exit_code=0) is None
    assert time.monotonic() - began < 2
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"ttt-run sync {tmp_path}" in warning
    # A process that lives on, as a notebook does, sends the rest.
    sink.gate.set()
    behind._thread.join(5)
    assert records(sink.calls) == ["start", *records(EVENTS), "finish"]


@pytest.mark.parametrize("failing", [0, 3, len(EVENTS) + 1])
def test_a_failing_sink_is_one_warning(failing, run, tmp_path, caplog):
    sink, file = Recorder(failing=failing), tmp_path / "metrics.jsonl"
    behind = Background(sink, journal=file)
    behind.start(run)
    publish(file, EVENTS)
    assert behind.finish(None, numbers={}, exit_code=0) is None
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "logger=recorder" in warning
    assert warning.endswith("no server")
    assert len(sink.calls) == failing


def test_a_sink_that_never_began_is_not_closed(tmp_path):
    sink = Recorder()
    assert Background(sink, journal=tmp_path / "metrics.jsonl").finish(None, numbers={}, exit_code=1) is None
    assert not sink.calls


def test_a_run_without_events_leaves_a_whole_csv(run, tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.touch()
    behind = Background(CsvSink(name="csv"), journal=file)
    behind.start(run)
    assert behind.finish(None, numbers={}, exit_code=0) is not None
    assert (tmp_path / "csv" / "train.csv").is_file()


@pytest.mark.parametrize(
    ("seconds", "exit_code", "patience"),
    [(2, 0, 18), (60, 0, 4), (120, 0, 4), (1000, 0, 30), (36000, 0, 60), (2, 75, 4), (36000, 130, 4)],
)
def test_the_wait_at_the_end_is_a_small_share_of_a_run(seconds, exit_code, patience):
    assert background._patience(seconds, exit_code=exit_code) == pytest.approx(patience)
