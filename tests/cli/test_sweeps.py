"""Sweeps: every run comes out the same whoever runs it; one that fails takes no other with it."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest
from commands import assert_refused
from harness import run_cold, run_here
from sweeping import SGD, SMALLEST, results_of

from ttt.cli.sweeps import job as jobs
from ttt.cli.sweeps.job import Starter
from ttt.results import catalogue
from ttt.results.saved import from_json
from ttt.results.scores import REWARDED
from ttt.results.tuning import known_metrics

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("sweeps")

PAIR = ["-m", *SGD, "optimizer.lr=0.1", "adapter=none,mlp_fast", "seeds=1"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Where two runs by `-m` are done, what a dry run showed before, and what the sweep showed."""
    where = tmp_path_factory.mktemp("grid")
    planned = run_here(["--dry-run", *PAIR], where)
    assert (planned.code, list(where.glob("outputs"))) == (0, []), planned.err
    outcome = run_here([*PAIR, "trainer.threads=auto"], where)
    assert outcome.code == 0, outcome.out
    return where, planned.out, outcome.out


def test_a_sweep_says_what_it_did_and_how_to_compare_it(grid):
    lines = grid[2].splitlines()
    assert lines[0].startswith("2 runs, ")
    # Labels hold what tells the runs apart, and nothing else.
    assert [line.split(", ")[0] for line in sorted(lines[1:-1])] == [
        "[1/2] adapter=none: done",
        "[2/2] adapter=mlp_fast: done",
    ]
    assert lines[-1].startswith("2 of 2 runs done, in ")
    assert lines[-1].endswith("; compare: ttt-compare outputs/split-sequence")
    assert not any("\x1b" in line for line in lines)


def test_a_dry_run_names_the_folders_that_the_sweep_then_makes(grid):
    where, planned, _ = grid
    assert planned.endswith("2 runs: 0 done, 2 to do\n")
    for name in results_of(where):
        assert f"{Path(name).parent} (new)" in planned


def test_a_dry_run_knows_what_is_done_and_finds_collisions(grid):
    where = grid[0]
    typed = ["-m", "--dry-run", *SGD, "optimizer.lr=0.1"]
    outcome = run_here([*typed, "adapter=none,mlp_fast", "seeds=2"], where)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("(done)") == 2
    assert outcome.out.endswith("4 runs: 2 done, 2 to do\n")
    outcome = run_here([*typed, "adapter=none", "trainer.report_every=1,2"], where)
    assert outcome.code == 2
    assert "(the same folder as [1])" in outcome.out
    assert outcome.err.startswith("ttt-run: 1 of 2 combinations ")
    # A value that no run may have is refused before any run is looked at.
    assert_refused(run_here([*typed, "adapter=none", "optimizer.lr=1e-3,-1"], where), "optimizer.lr=-1")
    assert len(results_of(where)) == 2


def test_typed_again_nothing_runs_again(grid):
    where = grid[0]
    before = {path: path.stat().st_mtime_ns for path in where.glob("outputs/*/*/*/*")}
    outcome = run_here(["-m", *SGD, "optimizer.lr=0.1", "adapter=none", "seeds=1"], where)
    assert outcome.code == 0
    assert "[1/1] run: done before, " in outcome.out
    assert "1 of 1 runs done (1 of them before)" in outcome.out
    assert before == {path: path.stat().st_mtime_ns for path in where.glob("outputs/*/*/*/*")}


def test_what_other_code_measured_is_said(tmp_path):
    words = ["-m", *SGD, "adapter=none", "seeds=1"]
    assert run_here(words, tmp_path).code == 0
    (environment,) = tmp_path.glob("outputs/*/*/*/environment.json")
    recorded = json.loads(environment.read_text())
    environment.write_text(json.dumps(recorded | {"code": "0" * 64}))
    assert "[1/1] run: done before, with other code, " in run_here(words, tmp_path).out


def test_a_sweep_goes_on_after_a_failure(tmp_path):
    outcome = run_here(["-m", *SGD, "adapter=none", "optimizer.lr=1e30,0.1", "seed=0,1"], tmp_path)
    assert outcome.code == 1
    assert outcome.out.count(": done") == 2
    assert outcome.out.count("FAILED with exit code 76: the loss on") == 2
    assert outcome.err == "2 of 4 runs did not finish; the same command runs those again\n"
    statuses = [json.loads(p.read_text())["status"] for p in tmp_path.glob("outputs/*/*/seed*/status.json")]
    assert sorted(statuses) == ["done", "done", "failed", "failed"]


def rounded(content: bytes) -> str:
    """The text of results.json with numbers of ten digits."""
    # The hash is of all digits.
    unsealed = re.sub(r'"sha256": "\w+"', "", content.decode())
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: f"{float(number[0]):.10g}", unsealed)


# Launchers bring worker processes of their own, which a forked process cannot have. They start
# cold, so that only one launcher also runs what fails.
@pytest.mark.parametrize(("launcher", "failing"), [("joblib", "1e30,"), ("submitit_local", "")])
def test_a_launcher_gives_the_same_numbers_and_goes_on_after_a_failure(launcher, failing, grid, tmp_path):
    typed = ["-m", *SGD, "adapter=mlp_fast", f"optimizer.lr={failing}0.1", "seed=0", "trainer.threads=auto"]
    outcome = run_cold([*typed, f"hydra/launcher={launcher}"], tmp_path)
    if failing:
        assert outcome.code == 1
        assert outcome.err == "1 of 2 runs did not finish; the same command runs those again\n"
        assert outcome.out.startswith(f"2 runs by hydra/launcher={launcher}")
        assert "optimizer.lr=1e+30: FAILED with exit code 76: " in outcome.out
        assert "optimizer.lr=0.1: done" in outcome.out
        assert "1 of 2 runs done, 1 failed, in " in outcome.out
    else:
        assert (outcome.code, outcome.err) == (0, "")
        assert "1 of 1 runs done, in " in outcome.out
    ((name, content),) = results_of(tmp_path).items()
    # A launcher's worker sets the threads of libraries for linear algebra, and singular values then
    # differ in their last bits.
    assert rounded(results_of(grid[0])[name]) == rounded(content)


def test_after_so_many_failures_no_further_run_starts(tmp_path):
    typed = ["-m", *SGD, "adapter=none", "optimizer.lr=1e30", "seeds=4", "sweep.jobs=1", "sweep.max_failures=1"]
    outcome = run_here(typed, tmp_path)
    assert outcome.code == 1
    assert outcome.out.count("FAILED with exit code 76: ") == 1
    assert outcome.out.count("not started: 1 runs had failed") == 3
    assert "0 of 4 runs done, 1 failed" in outcome.out
    assert outcome.err == "4 of 4 runs did not finish; the same command runs those again\n"


def test_a_terminated_sweep_leaves_no_run_behind(tmp_path):
    ended = threading.Event()

    def terminate() -> None:
        while not ended.wait(0.05):
            if len(list(tmp_path.glob("outputs/*/*/*/metrics.jsonl"))) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=terminate)
    watcher.start()
    typed = ["-m", *SMALLEST, "adapter=none", "task.steps_per_task=100000", "seeds=3", "sweep.jobs=2"]
    outcome = run_here(typed, tmp_path)
    ended.set()
    watcher.join()
    assert outcome.code == 143
    assert "stopped; the same command goes on from here" in outcome.out
    (sweep,) = tmp_path.glob("outputs/sweeps/*")
    states = [json.loads(path.read_text()) for path in sweep.glob("[0-9]*.json")]
    assert [(state["status"], state["code"], state["reason"]) for state in states] == [
        ("stopped", 75, "signal SIGTERM")
    ] * 2
    for state in states:
        with pytest.raises(ProcessLookupError):
            os.kill(state["pid"], 0)
    statuses = [json.loads(path.read_text())["status"] for path in tmp_path.glob("outputs/*/*/seed*/status.json")]
    assert statuses == ["requeue", "requeue"]


class Dead:
    """A process that ended before it could announce a folder."""

    pid = os.getpid()

    def wait(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("printed", "reason"),
    [("Traceback\n  File\nValueError: no\n\n", "ValueError: no"), ("", "no output")],
)
def test_a_run_that_died_without_a_word_is_known_by_its_last_line(tmp_path, monkeypatch, printed, reason):
    def start_child(arguments, *, log, **settings):
        log.write_text(printed)
        return Dead()

    monkeypatch.setattr(jobs, "start_child", start_child)
    starter = Starter(folder=tmp_path, cwd=tmp_path, extra=[], max_failures=None, objective="fast/loss/avg_learning")
    job = starter.run(1, ["seed=0"])
    assert (job.status, job.code, job.reason) == ("failed", 1, reason)


def test_the_known_metrics_are_those_of_a_run(grid):
    content = next(iter(results_of(grid[0]).values()))
    # Only runs with rewards know these. What a run also measures (diagnostics, references) may come
    # on top.
    rewarded = {name for name in known_metrics() if name.startswith("archived/") or name.split("/")[1] in REWARDED}
    assert "archived/success/avg_learning" in rewarded
    # And only runs whose tokens are not bytes know these.
    per_byte = {name for name in known_metrics() if name.split("/")[1].startswith("bits_per_byte")}
    # Or answers of several tokens.
    answers = {name for name in known_metrics() if name.split("/")[1].startswith("exact")}
    measured = set(catalogue.metrics(from_json(json.loads(content))))
    assert set(known_metrics()) - rewarded - per_byte - answers <= measured


def test_a_search_minimises_its_objective(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["-m", *SMALLEST, "adapter=none", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3",
              "optimizer.lr=interval(1e-4,1e-1)", "hydra.sweeper.sampler.seed=1"]  # fmt: skip
    outcome = run_here([*search, "hydra.sweeper.direction=maximize"], tmp_path)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "sweep.objective=fast/loss/avg_learning" in outcome.err
    outcome = run_cold(search, tmp_path)
    assert outcome.code == 0, outcome
    contents = [json.loads(content) for content in results_of(tmp_path).values()]
    values = {content["metrics"]["fast/loss/avg_learning"] for content in contents}
    assert len(values) == 3
    assert f"fast/loss/avg_learning {min(values):.4f}" in outcome.out
    assert "say so" not in outcome.out
    outcome = run_cold([*search, "sweep.objective=fast/loss/avg_final"], tmp_path)
    assert "fast/loss/avg_final is not known from the current task alone" in outcome.out
