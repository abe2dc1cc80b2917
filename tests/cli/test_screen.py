"""What a run shows: how much, how long it still takes, and lines that fit the terminal."""

from __future__ import annotations

import io
import math
import re
import threading

import pytest
from assembling import assembled
from commands import assert_refused
from drawn_results import drawn_results
from harness import FAST, SMALL, TINY, only_run, run_here
from rich.console import Console
from sample_events import evaluated, trained

from ttt.cli.announce import VARIABLE, read_announcement
from ttt.cli.runs import one
from ttt.cli.runs.display import LEVELS, sparkline
from ttt.cli.runs.forecast import READING, Forecast
from ttt.cli.runs.live import Live
from ttt.cli.runs.tables import metric_table, without_numbers
from ttt.results.events import Trained, Waiting
from ttt.storage.lock import Lock
from ttt.storage.run_folder import RunFolder


def forecast():
    """A base of 10 steps of 32 tokens, a stream of 18, and two tasks measured after each of them."""
    return Forecast(base=320, stream=576, columns=[2, 2, 2], reading=96)


def of_base(step, *, pace):
    return Trained(0, "base", step, 10, step, 32 * step, 1.0, pace, 5.0)


def test_the_time_left_is_known_from_the_first_report_on():
    at = forecast()
    assert at.left() is None
    at.hear(of_base(4, pace=64.0), seconds=3.0)
    # 6 steps of the base and all of the stream, at 64 tokens a second; 6 evaluations of a task.
    assert at.left() == pytest.approx((6 * 32 + 576) / 64 + 6 * 96 * READING / 64)
    at.hear(of_base(10, pace=64.0), seconds=3.0)
    at.hear(evaluated(0, base=True), seconds=8.0)
    # What was measured counts: 4 s for a task.
    assert at.left() == pytest.approx(576 / 64 + 4 * 4.0)
    at.hear(trained(9), seconds=1.0)
    assert at.left() == pytest.approx((576 - 288) / 64 + 4 * 4.0)
    at.hear(evaluated(1, base=False), seconds=8.0)
    at.hear(evaluated(2, base=False), seconds=8.0)
    assert at.left() == pytest.approx(288 / 64)


def test_a_forecast_counts_what_the_run_will_read():
    assembly = assembled(*TINY, *FAST)
    at = Forecast.of(assembly, modes=3)
    assert at == Forecast(base=3 * 2 * 16, stream=9 * 2 * 16, columns=[3, 3, 3, 3], reading=3 * 2 * 16)
    assert Forecast.of(assembled(*SMALL, *FAST, "base=none"), modes=3).base == 0


def test_a_sparkline_is_the_curve():
    assert sparkline([]) == ""
    assert sparkline([2.0]) == LEVELS[0]
    assert sparkline([8.0, 1.0, 4.5]) == LEVELS[7] + LEVELS[0] + LEVELS[4]
    assert len(sparkline(list(range(1000)))) == 12
    assert sparkline(list(map(float, range(24))), width=8) == LEVELS
    assert sparkline([1.0, math.nan, 2.0]) == f"{LEVELS[0]} {LEVELS[7]}"


@pytest.mark.parametrize("width", [40, 80, 140])
def test_lines_that_move_fit_the_terminal(width, monkeypatch):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width)
    events = [Waiting(), of_base(4, pace=1e6), of_base(10, pace=1e6), evaluated(0, base=True), trained(3), trained(9)]
    with Live(forecast(), console, steps=18) as live:
        for event in events:
            live.hear(event)
            live._progress.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    lines = re.split(r"[\r\n]+", text)
    assert max(map(len, lines)) <= width
    assert "measuring" in text
    if width > 40:
        assert "bits" in text
        assert "left" in text


def test_options_say_how_much_is_shown(tmp_path):
    words = [*TINY, "adapter=none"]
    quiet = run_here([*words, "--quiet"], tmp_path)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert run_here([*words, "--quiet"], tmp_path).out == ""
    verbose = run_here([*words, "seed=1", "base.seed=1", "--verbose"], tmp_path).out
    assert re.search(r"base: step \d/3", verbose)
    assert len(re.findall(r"task \d .*: step 3/3", verbose)) == 3
    plain = run_here([*words, "seed=2", "--plain"], tmp_path).out
    assert "step 3/3" not in plain
    assert "R: " in plain


def test_a_run_of_a_sweep_waits_for_a_run_that_is_going_on(tmp_path, monkeypatch):
    words = [*TINY, "adapter=none", "seed=4"]
    said = tmp_path / "run.json"
    assert run_here(words, tmp_path).code == 0
    run = only_run(tmp_path)
    RunFolder(run).set_status("running")
    other = Lock(run / "lock")
    other.take()
    try:
        # Typed alone it is refused, with its owner.
        assert_refused(run_here(words, tmp_path), "belongs to a run")
        monkeypatch.setenv(VARIABLE, str(said))
        monkeypatch.setattr(one, "LOOK_EVERY", 0.01)
        waiting = threading.Thread(target=one._wait_for_others, args=(RunFolder(run),))
        waiting.start()
        while "waits" not in read_announcement(said):
            assert waiting.is_alive()
        RunFolder(run).set_status("done")
    finally:
        other.release()
    waiting.join()
    assert read_announcement(said) == {"folder": str(run), "before": True}


def test_rows_without_numbers_are_left_out_and_explained_once():
    results = drawn_results(tasks=1)
    console = Console(file=io.StringIO(), width=120)
    console.print(metric_table(results))
    table = console.file.getvalue()
    assert "avg_final" in table
    assert "forgetting_max_seen" not in table
    (line,) = (line for line in without_numbers(results) if "forgetting_max_seen" in line)
    assert "bwt_gem" in line
    assert "undefined for 1 task" in line
