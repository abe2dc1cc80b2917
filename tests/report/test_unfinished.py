"""The page of a run that is not done: what was measured so far, and why it is not done."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import numpy as np
import pytest
from fake_runs import make_run
from pages import page_of

from ttt.report.record import read_record
from ttt.report.text import UNDEFINED
from ttt.report.unfinished import so_far
from ttt.results import catalogue


@pytest.mark.parametrize(("status", "reason"), [("failed", "RuntimeError: boom"), ("requeue", "interrupted")])
def test_the_page_says_that_a_run_is_not_done(status, reason, tmp_path):
    run = make_run(tmp_path, tasks=5, rows=4, status=status, reason=reason)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "trained", "task": 4, "torn')
    page = page_of(run)
    assert f"This run is not done ({status}: {reason})" in page.text
    assert "3 phases were learned by then" in page.text
    assert UNDEFINED in page.tables["tasks"][5]


def test_numbers_so_far_are_those_of_a_stream_that_ends_there(tmp_path):
    whole = make_run(tmp_path / "a", tasks=5)
    part = read_record(make_run(tmp_path / "b", tasks=5, rows=4, status="running"))
    r = read_record(whole).results.matrix("fast", "loss")
    np.testing.assert_array_equal(part.results.matrix("fast", "loss"), r[:4])
    ended = so_far(part.results)
    assert ended.tasks == ["001 language 1", "002 language 2", "003 language 3"]
    final, transfer = (catalogue.metric(ended, f"fast/loss/{name}") for name in ("avg_final", "bwt_gem"))
    assert final == pytest.approx(r[3, :3].mean())
    assert transfer == pytest.approx(-np.mean([r[3, j] - r[j + 1, j] for j in range(2)]))


def test_a_run_before_its_first_task(tmp_path):
    run = make_run(tmp_path, rows=1, status="failed", reason="no luck")
    assert "No task is learned yet" in page_of(run).text
    (run / "metrics.jsonl").write_text("")
    assert "nothing by then" in page_of(run).text


def test_a_dead_process_does_not_count_as_running(tmp_path):
    run = make_run(tmp_path, rows=3, status="running")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (run / "lock").write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid}))
    assert "its process is gone" in page_of(run).text


def test_a_damaged_journal_is_named_with_its_line(tmp_path):
    run = make_run(tmp_path, rows=3, status="failed", reason="boom")
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], "{torn\n", *lines[1:]]))
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 "):
        read_record(run)
