"""Evaluations inside tasks: what they give, where they come, and that they only look."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from assembling import assembled, refusal_of
from commands import assert_refused
from harness import FAST, SMALL, TINY, only_run, run_here
from settings import MLP, NANO
from streams import Streamed

from ttt.compare.runs import read_run
from ttt.evaluation.anytime import joined_progress
from ttt.evaluation.evaluate import evaluate
from ttt.results.events import Probed, Trained
from ttt.results.rows import plain
from ttt.results.saved import as_json
from ttt.storage.journal import read
from ttt.training.train import Progress


@pytest.mark.parametrize("overrides", [NANO, MLP], ids=["nano", "mlp"])
def test_looking_changes_nothing_that_is_learned(overrides):
    """Weights, moments and random numbers are bit-equal with every evaluation and with none."""
    plain_run = Streamed(assembled(*overrides, "eval.diagnostics=false"))
    looked = Streamed(assembled(*overrides, "eval.anytime=3", "eval.savings=true", "eval.diagnostics=true"))
    assert looked.left() == plain_run.left()
    assert looked.results.points
    assert looked.results.relearned
    matrices = [run.results.matrix("slow", "loss") for run in (plain_run, looked)]
    assert (matrices[0] == matrices[1]).all()


def test_points_are_the_tasks_so_far_every_n_steps_but_where_a_row_is():
    run = Streamed(assembled(*NANO, "eval.anytime=2"))
    points = run.results.points
    assert [point["step"] for point in points] == [2, 4, 8, 10, 14, 16]
    assert [point["columns"] for point in points] == [[0], [0], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]
    assert list(points[0]["scores"]) == ["slow", "fast", "carried"]
    probed = [event for event in run.events if isinstance(event, Probed)]
    assert [(event.step, event.task, event.task_step, event.current) for event in probed][2:4] == [
        (8, 2, 2, 1),
        (10, 2, 4, 1),
    ]
    assert [event.seen for event in probed[::2]] == [[], [0], [0, 1]]
    assert [row["step"] for row in run.results.rows] == [0, 6, 12, 18]
    assert [row["current"] for row in run.results.rows] == [None, 0, 1, 2]
    assert run.clock.evaluation > 0


def test_a_point_is_what_evaluation_gives_there():
    """Training is stopped at the step of a point, and evaluated by hand."""
    run = Streamed(assembled(*MLP, "eval.anytime=4"))
    assembly = assembled(*MLP)
    (point,) = [point for point in run.results.points if point["step"] == 14]
    phases = assembly.stream.phases
    cut = replace(assembly.stream, phases=[phases[0], replace(phases[1], steps=4)], tasks=assembly.stream.tasks[:2])
    stopped = Streamed(replace(assembly, stream=cut))
    scores = evaluate(stopped.engine, [task.evaluation() for task in assembly.stream.tasks[:2]], recipe=assembly.recipe)
    assert plain(point["scores"]) == plain(scores)


def test_reports_come_when_they_come_without_points():
    with_points, without = (Streamed(assembled(*NANO, f"eval.anytime={n}")) for n in (3, "null"))
    reports = [[event for event in run.events if isinstance(event, Trained)] for run in (with_points, without)]
    steps = [[(event.task, event.task_step, event.step, event.tokens) for event in events] for events in reports]
    assert steps[0] == steps[1]
    assert [step for _, step, _, _ in steps[0]] == [4, 6] * 3
    losses = [[event.loss for event in events] for events in reports]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_pieces_of_a_report_are_weighted_by_their_steps():
    pieces = ((6, 2.0, 20, {"reward": 0.5, "gap": 1.0}), (7, 5.0, 10, {"reward": 0.2}))
    parts = [
        Progress(step, loss, tokens, 1.0, 0.1, {"rollouts": float(step)}, watched)
        for step, loss, tokens, watched in pieces
    ]
    done = joined_progress(parts, since=4)
    assert (done.step, done.loss, done.tokens, done.seconds) == (7, pytest.approx(3.0), 30, 2.0)
    # Totals are those of the last piece; means are over all steps that have a value.
    assert done.terms == {"rollouts": 7.0}
    assert done.watched == {"reward": pytest.approx(0.4), "gap": 1.0}
    assert joined_progress(parts[1:], since=6) is parts[1]


def without_times(file):
    events = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in event.items() if k not in ("seconds", "tokens_per_second")} for event in events]


def test_a_run_stopped_inside_a_task_goes_on_to_the_same_points(tmp_path):
    job = [*NANO, "task.num_tasks=3"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    first = Streamed(assembled(*job, "eval.anytime=2", "eval.savings=true", "eval.diagnostics=true"), whole)

    def stop(event):
        # After a point of the second task, which no checkpoint knows of.
        if isinstance(event, Probed) and event.step == 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Streamed(assembled(*job, "eval.anytime=2", "eval.savings=true", "eval.diagnostics=true"), stopped, watch=stop)
    assert without_times(stopped / "metrics.jsonl")[-1]["step"] == 10
    second = Streamed(assembled(*job, "eval.anytime=2", "eval.savings=true", "eval.diagnostics=true"), stopped)
    assert second.left() == first.left()
    assert as_json(second.results) == as_json(first.results)
    assert without_times(stopped / "metrics.jsonl") == without_times(whole / "metrics.jsonl")
    kinds = [record["event"] for record in read(whole / "metrics.jsonl")]
    assert [kinds.count(kind) for kind in ("probed", "relearned", "evaluated")] == [6, 3, 4]


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("eval.anytime=0", ["at least 1"]),
        ("eval.anytime=abc", ["null"]),
        ("eval.anytime=2.5", ["at least 1"]),
        ("eval.anytime=true", ["at least 1"]),
        ("eval.savings=true", ["eval.anytime="]),
        ("eval.savings=2", ["true or false"]),
        ("eval.diagnostics=no-way", ["true or false"]),
    ],
)
def test_a_setting_that_cannot_be_is_refused(typed, parts):
    message = refusal_of(*SMALL, *FAST, "base=none", typed)
    assert message.startswith(typed)
    assert all(part in message for part in parts)


def test_a_typo_is_refused_in_one_line(tmp_path):
    outcome = run_here([*SMALL, *FAST, "eval.anytme=2"], tmp_path)
    assert_refused(outcome, "eval.anytme=2", "did you mean eval.anytime=2?")
    assert not list(tmp_path.iterdir())


def test_the_command_measures_and_reads_it_back(tmp_path):
    small = [o for o in TINY if not o.startswith(("report", "logger"))]
    job = [*small, *FAST, "logger=csv", "report=true", "eval.anytime=1", "eval.savings=true"]
    outcome = run_here(job, tmp_path)
    assert outcome.code == 0, outcome.err
    run = read_run(only_run(tmp_path))
    for name in ("fast/loss/min_acc", "slow/accuracy/gap_depth", "carried/loss/lca_3", "slow/plasticity/erank",
                 "carried/plasticity/erank", "fast/drift/kl_base", "split/loss/forgetting_slow"):  # fmt: skip
        assert name in run.names()
        assert math.isfinite(run.metric(name)), name
    page = (run.folder / "report.html").read_text()
    for title in ("Loss of each task, inside tasks too", "Dormant units", "Effective rank", "Drift from the base"):
        assert title in page
    assert math.isnan(run.metric("nowhere/loss/min_acc"))
