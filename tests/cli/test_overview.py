"""What a sweep shows on a terminal: what runs now, and the time left."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import sys
import threading
import time

import pytest
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console
from sweeping import SMALLEST

from ttt.cli import run as cli_run
from ttt.cli.sweeps.job import Job
from ttt.cli.sweeps.overview import Overview, doing, span
from ttt.results.events import Evaluated, Trained, as_record
from ttt.storage.files import write_json

# The group whose process has a warm server to fork runs from.
pytestmark = pytest.mark.xdist_group("sweeps")


class Screen(threading.Thread):
    """Reads all that is written to a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._near, far = pty.openpty()
        self.terminal = os.fdopen(far, "w")
        self.shown = b""

    def run(self) -> None:
        # Reading fails once the other end is closed.
        with contextlib.suppress(OSError):
            while piece := os.read(self._near, 4096):
                self.shown += piece
        os.close(self._near)


def test_a_terminal_shows_what_runs(tmp_path, monkeypatch):
    """On a real terminal of 80 columns the overview is drawn."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("COLUMNS", "80"), ("LINES", "24"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    typed = ["ttt-run", "-m", *SMALLEST, "adapter=none", "seeds=2", "sweep.jobs=1"]
    monkeypatch.setattr(sys, "argv", typed)
    GlobalHydra.instance().clear()
    screen = Screen()
    screen.start()
    with screen.terminal, contextlib.redirect_stdout(screen.terminal), pytest.raises(SystemExit) as end:
        cli_run.main()
    screen.join()
    assert not end.value.code
    text = screen.shown.decode()
    assert "0 done, 0 failed, 1 running, 1 waiting; time left unknown" in text
    assert "1 done, 0 failed, 1 running, 0 waiting; about " in text
    assert "[2/2] seed=1: done, fast/loss/avg_learning " in text


def test_the_overview_reads_what_a_run_is_doing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(number=3, overrides=["adapter=none", "trainer.threads=1", "seed=2"], pid=1)
    assert doing(tmp_path, job) == "starting"
    write_json(tmp_path / "run-0003.json", {"folder": "outputs/run", "before": False})
    assert doing(tmp_path, job) == "base"
    write_json(tmp_path / "run-0003.json", {"folder": "outputs/run", "before": False, "waits": "it belongs to a run"})
    assert doing(tmp_path, job) == "waits: it belongs to a run"
    write_json(tmp_path / "run-0003.json", {"folder": "outputs/run", "before": False})
    (tmp_path / "outputs" / "run").mkdir(parents=True)
    journal = tmp_path / "outputs" / "run" / "metrics.jsonl"
    clock = {"step": 40, "tokens": 400, "seconds": 4.0}
    scores = {"slow": {"loss": [2.0, 3.0]}}
    row = as_record(Evaluated(row=0, columns=[0, 1], current=None, seen=[], tasks=scores, base=None, **clock))
    step = as_record(
        Trained(
            task=2, task_name="afr", task_step=10, task_steps=30, loss=2.5, lr=1e-3, tokens_per_second=100.0, **clock
        )
    )
    journal.write_text(f"{json.dumps(row)}\n")
    assert doing(tmp_path, job) == "measured before the stream: 2.500 bits"
    later = row | {"row": 1, "seen": [0], "tasks": {"fast": {"success": [0.25, None]}, "slow": {}}}
    journal.write_text(f"{json.dumps(later)}\n")
    assert doing(tmp_path, job) == "measured after task 1: 0.250 success"
    journal.write_text(f'{json.dumps(row)}\n{json.dumps(step)}\n{{"half')
    assert doing(tmp_path, job) == "task 2 afr: step 10/30, 2.50 bits"
    # Four runs of 60 s each, one done, one begun a moment ago: three minutes to go.
    write_json(tmp_path / "0003.json", vars(job) | {"started": time.time()})
    write_json(tmp_path / "0001.json", vars(Job(1, ["adapter=none", "seed=0"], status="done", seconds=60.0)))
    overview = Overview(tmp_path, total=4, varied={"seed"})
    console = Console(width=80, height=24)
    overview._look()
    with console.capture() as captured:
        console.print(overview._picture())
    lines = captured.get().splitlines()
    assert lines[0].endswith("1 done, 0 failed, 1 running, 2 waiting; about 3 min left")
    assert lines[1].split() == ["[3]", "seed=2", "0", "s", "task", "2", "afr:", "step", "10/30,", "2.50", "bits"]
    assert max(map(len, lines)) <= 80


def test_times_as_one_says_them():
    assert [span(x) for x in (0.4, 89, 91, 3600, 10_000)] == ["0 s", "89 s", "2 min", "60 min", "2 h 47 min"]
