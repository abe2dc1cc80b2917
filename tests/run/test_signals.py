"""Signals: a run saves and says how it ended; whoever is impatient gets out at once."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from harness import FAST, TINY, only_run, run_here

from ttt.run import loop, signals
from ttt.run.exit_codes import STOPPED, ExitCode

JOB = (*TINY, *FAST, "trainer.report_every=1")


def during(monkeypatch, module, name, *numbers, wait=0.0):
    """Send signals to this process when a function is called for the second time."""
    original, calls = getattr(module, name), []

    def noisy(*args, **rest):
        calls.append(name)
        if len(calls) == 2:
            for number in numbers:
                os.kill(os.getpid(), number)
            deadline = time.monotonic() + wait
            while time.monotonic() < deadline:
                time.sleep(0.01)
        return original(*args, **rest)

    monkeypatch.setattr(module, name, noisy)


def ended(folder):
    run = only_run(folder)
    assert not (run / "lock").exists()
    status = json.loads((run / "status.json").read_text())
    return status["status"], sorted(path.name for path in (run / "checkpoints").glob("task-*"))


def test_a_signal_inside_a_task_saves_at_the_next_report(tmp_path, monkeypatch):
    """And the same command goes on from there, to the same results."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run_here(JOB, whole).code == 0
    with monkeypatch.context() as patch:
        during(patch, loop, "joined_progress", signal.SIGUSR1)
        outcome = run_here(JOB, tmp_path)
    assert outcome.code == 75
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) == 2
    assert ended(tmp_path) == ("requeue", ["task-0000", "task-0000-step-00000002"])
    assert run_here(JOB, tmp_path).code == 0
    assert (only_run(tmp_path) / "results.json").read_bytes() == (only_run(whole) / "results.json").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGHUP, 75)])
def test_a_signal_in_an_evaluation_saves_after_it(tmp_path, monkeypatch, number, code):
    during(monkeypatch, loop, "measure_row", number)
    assert run_here(JOB, tmp_path).code == code
    assert ended(tmp_path)[1] == ["task-0000", "task-0001"]


def test_an_evaluation_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "GRACE", 0.2)
    during(monkeypatch, loop, "measure_row", signal.SIGTERM, wait=20)
    assert run_here(JOB, tmp_path).code == 75
    # What was learned since the last checkpoint is learned again.
    assert ended(tmp_path) == ("requeue", ["task-0000"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_second_signal_ends_the_run_at_once(tmp_path, monkeypatch, number):
    during(monkeypatch, loop, "measure_row", signal.SIGTERM, number, wait=20)
    start = time.monotonic()
    outcome = run_here(JOB, tmp_path)
    assert time.monotonic() - start < 15
    assert outcome.code == 128 + number
    assert "Traceback" not in outcome.err
    assert ended(tmp_path) == ("requeue", ["task-0000"])


def test_a_signal_in_the_last_evaluation_comes_too_late_to_stop_anything(tmp_path, monkeypatch):
    during(monkeypatch, loop, "measure_row", signal.SIGTERM)
    assert run_here([*JOB, "task.num_tasks=1"], tmp_path).code == 0


def test_handlers_are_given_back_and_ignored_signals_stay_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
        with signals.stoppable():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in handlers
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_sweep_counts_every_stop_as_one():
    assert {75, 130, 143, 129, 138, -15, -2} <= {int(code) for code in STOPPED}
    assert not {0, 1, 2, 70, 76, 77, 78} & set(STOPPED)
    assert [int(code) for code in ExitCode] == [0, 1, 2, 70, 75, 76, 77, 78, 130, 143]
