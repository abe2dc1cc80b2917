"""Evaluations inside tasks, tasks relearned, context needed again: what they give, and that they only look."""

from __future__ import annotations

import json
import math
from contextlib import closing, nullcontext
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from harness import FAST, SMALL, TINY, only_run, run_here
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ttt.compare.runs import read_run
from ttt.evaluation.anytime import joined
from ttt.evaluation.diagnose import Diagnosis
from ttt.evaluation.evaluate import evaluate, evaluate_along, tally, tally_along
from ttt.learner import slow_hash
from ttt.metrics.slope import slope_interval
from ttt.results import catalogue
from ttt.results.catalogue import better
from ttt.results.events import Probed, Relearned, Trained
from ttt.results.results import Results
from ttt.results.rows import plain
from ttt.results.saved import as_json, from_json
from ttt.results.scores import QUANTITIES
from ttt.run.assemble import assemble
from ttt.run.loop import Session, run_stream
from ttt.run.resume import restore_run
from ttt.sinks.numbers import FAMILIES, axis_values, event_numbers
from ttt.storage.checkpoint import load_newest, rng_tensors
from ttt.storage.journal import Journal, read
from ttt.training.clock import Clock
from ttt.training.train import Progress

# Vectors and the plain MLP.
MLP = ("model=mlp", "source=digits", "adapter=none", "base=none", "task=permuted-sequence", "task.permute=positions",
       "task.num_tasks=3", "task.steps_per_task=10", "task.eval_sequences=all", "optimizer=sgd", "trainer.threads=1",
       "trainer.precision=32-true", "trainer.accelerator=cpu", "logger=none", "report=false")  # fmt: skip
NANO = (*SMALL, *FAST, "base=none", "adapter.reset=never", "task.steps_per_task=6", "optimizer.slow_every=2")


def make(overrides, **changed):
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides=list(dict.fromkeys(overrides))), resolve=True)
    config["eval"] |= changed
    return assemble(config, trusted=[])


class Streamed:
    """A run without its command; with a folder it keeps a journal and checkpoints, and goes on from what lies there."""

    def __init__(self, assembly, folder=None, watch=None, report_every=4):
        self.results, self.events = Results.of(assembly.stream), []
        fabric = assembly.settings.fabric()
        self.engine = assembly.engine(fabric, None)
        diagnosis = (
            Diagnosis.at_base(self.engine, assembly.stream, strategy=assembly.recipe.strategy)
            if assembly.plan.diagnostics
            else None
        )
        saved = load_newest(folder)[0] if folder else None
        self.clock = restore_run(self.engine, assembly.recipe, saved, results=self.results) if saved else Clock()
        position = saved.state["journal_position"] if saved else 0
        journal = Journal(folder / "metrics.jsonl", position=position) if folder else None
        with closing(journal) if journal else nullcontext():
            self.run(assembly, folder, watch or self.events.append, journal, diagnosis, report_every)

    def run(self, assembly, folder, watch, journal, diagnosis, report_every):
        run_stream(
            Session(
                engine=self.engine,
                stream=assembly.stream,
                recipe=assembly.recipe,
                plan=assembly.plan,
                results=self.results,
                clock=self.clock,
                checkpoints=folder,
                journal=journal,
                observers=[watch],
                diagnosis=diagnosis,
                report_every=report_every,
            )
        )

    def left(self):
        """Everything that a run leaves behind, as bytes."""
        learner, optimizer = self.engine.learner, self.engine.optimizer
        moments = [optimizer.state.get(p, {}) for p in self.engine.order]
        tensors = [x for _, x in sorted({**learner.fast, **rng_tensors()}.items())]
        tensors += [torch.as_tensor(x) for state in moments for _, x in sorted(state.items()) if x is not None]
        return slow_hash(learner.model), [x.numpy().tobytes() for x in tensors]


@pytest.mark.parametrize("overrides", [NANO, MLP], ids=["nano", "mlp"])
def test_looking_changes_nothing_that_is_learned(overrides):
    """Slow and fast weights, moments and random numbers are bit-equal with every look and with none."""
    plain_run = Streamed(make(overrides, diagnostics=False))
    looked = Streamed(make(overrides, anytime=3, savings=True, diagnostics=True))
    assert looked.left() == plain_run.left()
    assert looked.results.points
    assert looked.results.relearned
    matrices = [run.results.matrix("slow", "loss") for run in (plain_run, looked)]
    assert (matrices[0] == matrices[1]).all()


def test_points_are_the_tasks_so_far_every_n_steps_but_where_a_row_is():
    run = Streamed(make(NANO, anytime=2))
    points = run.results.points
    assert [point["step"] for point in points] == [2, 4, 8, 10, 14, 16]
    assert [point["columns"] for point in points] == [[0], [0], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]
    assert list(points[0]["scores"]) == ["slow", "fast", "carried"]
    told = [event for event in run.events if isinstance(event, Probed)]
    assert [(event.step, event.task, event.task_step, event.current) for event in told][2:4] == [
        (8, 2, 2, 1),
        (10, 2, 4, 1),
    ]
    assert [event.seen for event in told[::2]] == [[], [0], [0, 1]]
    assert [row["step"] for row in run.results.rows] == [0, 6, 12, 18]
    assert [row["current"] for row in run.results.rows] == [None, 0, 1, 2]
    assert run.clock.evaluation > 0


def test_a_point_is_what_evaluation_gives_there():
    """Training is stopped at the step of a point, and evaluated by hand."""
    run = Streamed(make(MLP, anytime=4))
    assembly = make(MLP)
    (point,) = [point for point in run.results.points if point["step"] == 14]
    phases = assembly.stream.phases
    cut = replace(assembly.stream, phases=[phases[0], replace(phases[1], steps=4)], tasks=assembly.stream.tasks[:2])
    stopped = Streamed(replace(assembly, stream=cut))
    scores = evaluate(stopped.engine, [task.evaluation() for task in assembly.stream.tasks[:2]], recipe=assembly.recipe)
    assert plain(point["scores"]) == plain(scores)


def test_reports_come_when_they_come_without_points():
    with_points, without = (Streamed(make(NANO, anytime=n)) for n in (3, None))
    told = [[event for event in run.events if isinstance(event, Trained)] for run in (with_points, without)]
    steps = [[(event.task, event.task_step, event.step, event.tokens) for event in events] for events in told]
    assert steps[0] == steps[1]
    assert [step for _, step, _, _ in steps[0]] == [4, 6] * 3
    losses = [[event.loss for event in events] for events in told]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_pieces_of_a_report_are_weighted_by_their_steps():
    told = ((6, 2.0, 20, {"reward": 0.5, "gap": 1.0}), (7, 5.0, 10, {"reward": 0.2}))
    parts = [
        Progress(step, loss, tokens, 1.0, 0.1, {"rollouts": float(step)}, watched)
        for step, loss, tokens, watched in told
    ]
    done = joined(parts, since=4)
    assert (done.step, done.loss, done.tokens, done.seconds) == (7, pytest.approx(3.0), 30, 2.0)
    # What stands now is that of the last piece; means are those of all steps that have one.
    assert done.terms == {"rollouts": 7.0}
    assert done.watched == {"reward": pytest.approx(0.4), "gap": 1.0}
    assert joined(parts[1:], since=6) is parts[1]


def without_times(file):
    events = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in event.items() if k not in ("seconds", "tokens_per_second")} for event in events]


def test_a_run_stopped_inside_a_task_goes_on_to_the_same_points(tmp_path):
    job = [*NANO, "task.num_tasks=3"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    first = Streamed(make(job, anytime=2, savings=True, diagnostics=True), whole)

    def stop(event):
        # After a point of the second task, which no checkpoint knows of.
        if isinstance(event, Probed) and event.step == 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Streamed(make(job, anytime=2, savings=True, diagnostics=True), stopped, watch=stop)
    assert without_times(stopped / "metrics.jsonl")[-1]["step"] == 10
    second = Streamed(make(job, anytime=2, savings=True, diagnostics=True), stopped)
    assert second.left() == first.left()
    assert as_json(second.results) == as_json(first.results)
    assert without_times(stopped / "metrics.jsonl") == without_times(whole / "metrics.jsonl")
    kinds = [record["event"] for record in read(whole / "metrics.jsonl")]
    assert [kinds.count(kind) for kind in ("probed", "relearned", "evaluated")] == [6, 3, 4]


# Three tasks of 40 steps, measured every 10, as in test_curves.py: task 1 dips in phase 2 and comes back but for 0.1,
# task 2 falls for good.
FIRST = [0.1, 0.5, 0.7, 0.8, 0.9, 0.3, 0.5, 0.7, 0.8, 0.4, 0.6, 0.8, 0.8]
SECOND = [0.2, 0.2, 0.2, 0.2, 0.2, 0.6, 0.8, 0.9, 0.9, 0.7, 0.6, 0.5, 0.4]
THIRD = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.7, 0.8, 0.9, 1.0]
VALUES = np.array([FIRST, SECOND, THIRD])


def by_hand(*, anytime=True, tasks=3, modes=("slow", "fast")):
    """Accuracies are VALUES, losses 5 minus them."""
    results = Results(
        scenario="task",
        tasks=["a", "b", "c"][:tasks],
        fingerprints=[""] * tasks,
        learned_at=list(range(1, tasks + 1)),
        entropy=[math.nan] * tasks,
        phases=tasks,
    )
    results.every = 10 if anytime else 0
    for k in range(4 * tasks + 1):
        row, rest = divmod(k, 4)
        columns = list(range(tasks)) if rest == 0 else list(range(row + 1))
        accuracy = VALUES[columns, k]
        one = {q: (5 - accuracy if q.startswith("loss") else accuracy).tolist() for q in QUANTITIES}
        scores = dict.fromkeys(modes, one)
        if rest == 0:
            results.add(columns=columns, scores=scores, base=None, step=10 * k, current=row - 1 if row else None)
        elif anytime:
            results.points.append({"step": 10 * k, "columns": columns, "scores": scores})
    return results


def test_metrics_of_the_curves_by_hand():
    found = catalogue.metrics(by_hand())
    expected = {
        "min_acc": (0.3 + 0.4) / 2,
        "wc_acc": (1.0 + 0.3 + 0.4) / 3,
        # Phases 2 and 3: task 1 falls from 0.9 to 0.3 and from 0.8 to 0.4, task 2 from 0.9 to 0.4.
        "gap_depth": (0.6 + 0.4 + 0.5) / 3,
        "gap_lasting": (0.1 + 0.0 + 0.5) / 3,
        # Task 1 is back at 0.8 after 30 steps of phase 3; the others are not seen to come back.
        "gap_length": 30,
        "gap_length_censored": 2 / 3,
        "steps_to_criterion": (40 + 30 + 40) / 3,
        "steps_to_criterion_censored": 0,
        "lca_4": (np.mean(FIRST[:5]) + np.mean(SECOND[4:9]) + np.mean(THIRD[8:])) / 3,
        "windowed_forgetting": (0.6 + 0.5 + 0.0) / 3,
        "windowed_plasticity": (0.8 + 0.7 + 0.7) / 3,
    }
    for name, value in expected.items():
        if name != "windowed_forgetting":
            assert found[f"slow/accuracy/{name}"] == pytest.approx(value), name
    values = ("min_acc", "wc_acc", "lca_4")
    for name, value in expected.items():
        # Of a loss the same changes, but values in its own unit: the worst loss.
        assert found[f"fast/loss/{name}"] == pytest.approx(
            5 - value if name in values else found[f"slow/accuracy/{name}"]
        ), name
    # Task 3 only rises: its steepest "fall" is the smallest rise, below zero.
    assert found["slow/accuracy/windowed_forgetting"] == pytest.approx((0.6 + 0.5 - 0.1) / 3)


def test_without_points_there_are_no_such_names():
    named = catalogue.metrics(by_hand(anytime=False))
    assert not [
        name for name in named if any(word in name for word in ("min_acc", "gap_", "lca", "windowed", "savings"))
    ]
    assert math.isnan(catalogue.metric(by_hand(anytime=False), "fast/loss/min_acc"))
    assert not [name for name in named if "/plasticity/" in name or "/drift/" in name]


def test_an_undefined_one_says_why():
    results = by_hand()
    undefined = as_json(results)["undefined"]
    assert not [name for name in undefined if "_acc" in name or "lca" in name]
    results.points[5]["scores"] = json.loads(json.dumps(results.points[5]["scores"]))
    results.points[5]["scores"]["fast"]["loss"][0] = math.nan
    results._curves.clear()
    assert catalogue.why(results, "fast/loss/min_acc") == "task 1 was not measured at step 70"
    results.rows[2]["columns"] = [1, 2]
    thin = {mode: {q: v[1:] for q, v in one.items()} for mode, one in results.rows[2]["scores"].items()}
    results.rows[2]["scores"] = thin
    results._curves.clear()
    assert math.isnan(catalogue.metric(results, "slow/loss/wc_acc"))
    assert catalogue.why(results, "slow/loss/wc_acc") == "task 1 was not measured in row 2 (see eval.every)"
    alone = as_json(by_hand(tasks=1))["undefined"]
    assert alone["fast/loss/gap_depth"] == "no task was old in any phase"
    assert alone["fast/loss/slope_low"] == "undefined for 1 task"


def test_everything_comes_back_from_json():
    results = by_hand()
    results.relearned = [
        {"task": 0, "steps": [0, 10], "scores": {m: {q: [0.1, 0.9] for q in QUANTITIES} for m in results.modes}}
    ]
    results.rows[0]["profile"] = [[1.0, math.nan], [1.0, 2.0], [3.0, 4.0]]
    results.rows[1]["diagnostics"] = {"probe/x/erank": 3.0, "probe/y/erank": math.nan}
    results.points[0]["scores"]["slow"]["loss"][0] = math.nan
    text = json.dumps(as_json(results))
    again = from_json(json.loads(text))
    assert json.dumps(as_json(again)) == text
    assert math.isnan(again.points[0]["scores"]["slow"]["loss"][0])
    assert again.points[1]["step"] == 20
    with pytest.raises(ValueError, match="another version"):
        from_json({k: v for k, v in json.loads(text).items() if k != "anytime"})


def relearned(task, steps, accuracy, *, modes=("slow", "fast")):
    scores = {q: [5 - x for x in accuracy] if q.startswith("loss") else accuracy for q in QUANTITIES}
    return {"task": task, "steps": steps, "scores": dict.fromkeys(modes, scores)}


def test_slow_savings_by_hand():
    """N_first of tasks 1 to 3 is 40, 30, 40; the criteria are 0.82, 0.83 and 0.93."""
    results = by_hand()
    results.relearned = [
        relearned(0, [0, 10], [0.8, 0.85]),
        relearned(1, [0, 10, 20, 30, 40], [0.4, 0.5, 0.6, 0.7, 0.8]),
        relearned(2, [0], [1.0]),
    ]
    for quantity in ("loss", "accuracy"):
        # Task 1 in a quarter of the steps, task 3 at once; task 2 never came back and is left out.
        assert catalogue.metric(results, f"slow/{quantity}/savings_slow") == pytest.approx((0.75 + 1) / 2)
        assert catalogue.metric(results, f"slow/{quantity}/savings_slow_censored") == pytest.approx(1 / 3)
    flat = by_hand()
    flat.rows[1]["scores"]["slow"]["accuracy"][0] = 0.1
    flat.relearned = [relearned(0, [0], [0.8])]
    assert math.isnan(catalogue.metric(flat, "slow/accuracy/savings_slow"))
    assert catalogue.why(flat, "slow/accuracy/savings_slow") == "task 1 had nothing to learn when it was first taught"


def test_relearning_begins_where_the_stream_ended_and_stops_when_a_task_is_back():
    forgets = [o for o in MLP if not o.startswith("task")]
    forgets += ["task=split-sequence", "task.scenario=class", "task.classes_per_task=2", "task.num_tasks=4"]
    forgets += ["task.steps_per_task=10", "task.eval_sequences=all", "optimizer.lr=0.1"]
    run = Streamed(make(forgets, anytime=2, savings=True))
    results, modes = run.results, run.results.modes
    assert [one["task"] for one in results.relearned] == [0, 1, 2, 3]
    for one in results.relearned:
        for mode in modes:
            assert one["scores"][mode]["loss"][0] == results.matrix(mode, "loss")[-1, one["task"]]
    # The last task was just learned: nothing is to be relearned. The first was forgotten.
    assert results.relearned[3]["steps"] == [0]
    assert catalogue.metric(results, "slow/loss/forgetting_at_learn") > 0.05
    assert results.relearned[0]["steps"][:2] == [0, 2]
    assert results.relearned[0]["scores"]["slow"]["loss"][-1] < results.relearned[0]["scores"]["slow"]["loss"][0]
    assert all(max(one["steps"]) <= 10 for one in results.relearned)
    told = [event for event in run.events if isinstance(event, Relearned)]
    assert [event.steps for event in told] == [one["steps"] for one in results.relearned]
    assert catalogue.metric(results, "slow/loss/savings_slow") <= 1


def profile(*pieces):
    """Sixteen pieces out of four quarters."""
    return [x for x in pieces for _ in range(4)]


def test_fast_savings_by_hand():
    """Before: the last quarter's mean is met after 16 pieces. After: the running mean of four is there after 5."""
    results = by_hand(anytime=False, tasks=1)
    results.rows[0]["profile"] = [profile(6.0, 5.0, 4.0, 3.0)]
    results.rows[1]["profile"] = [profile(3.4, 1.8, 1.0, 1.0)]
    assert catalogue.metric(results, "fast/loss/savings_fast") == pytest.approx(1 - 5 / 16)
    results.rows[1]["profile"] = [profile(3.4, 3.3, 3.2, 3.1)]
    assert catalogue.metric(results, "fast/loss/savings_fast_censored") == 1
    assert math.isnan(catalogue.metric(results, "fast/loss/savings_fast"))
    # Half of the pieces hold no scored token.
    holes = profile(6.0, 5.0, 4.0, 3.0)
    holes[::2] = [math.nan] * 8
    results.rows[0]["profile"] = [holes]
    results.rows[1]["profile"] = [[math.nan, 2.0] * 8]
    assert catalogue.metric(results, "fast/loss/savings_fast") == pytest.approx(1 - 2 / 16)
    results.rows[1]["profile"] = [profile(1.0, 1.0, 1.0, math.nan)]
    assert catalogue.why(results, "fast/loss/savings_fast").startswith("no scored token in the last quarter")


def test_a_profile_adds_up_to_the_loss():
    assembly = make(NANO)
    engine = assembly.engine(assembly.settings.fabric(), None)
    batches = [task.evaluation() for task in assembly.stream.tasks]
    scores, pieces = evaluate_along(engine, batches, recipe=assembly.recipe)
    assert len(pieces) == 3
    for j, batch in enumerate(batches):
        counts = tally_along(torch.zeros(batch.targets_BT.shape), batch.targets_BT * 0, batch.targets_BT >= 0)[:, 2]
        known = [(x, n) for x, n in zip(pieces[j], counts.tolist(), strict=True) if n]
        assert all(math.isnan(x) == (n == 0) for x, n in zip(pieces[j], counts.tolist(), strict=True))
        assert sum(x * n for x, n in known) / sum(n for _, n in known) == pytest.approx(scores["fast"]["loss"][j])
    assert evaluate_along(*engine_and_batches(MLP))[1] is None


def engine_and_batches(overrides):
    assembly = make(overrides)
    return assembly.engine(assembly.settings.fabric(), None), [assembly.stream.tasks[0].evaluation()]


@pytest.mark.parametrize("length", [1, 7, 16, 50])
def test_pieces_of_a_context_hold_every_token_once(length):
    generator = torch.Generator().manual_seed(length)
    nats, scored = torch.rand(3, length, generator=generator), torch.rand(3, length, generator=generator) > 0.3
    hits = nats > 0.5
    pieces = tally_along(nats, hits, scored)
    assert pieces.shape == (16, 3)
    assert torch.allclose(pieces.sum(0), tally(nats, hits, scored)[0])
    assert int((pieces[:, 2] > 0).sum()) <= min(length, 16)


def test_the_split_adds_up_and_says_what_the_carried_state_adds():
    rng = np.random.default_rng(0)
    results = Results(scenario="task", tasks=list("abcd"), fingerprints=[""] * 4, learned_at=[1, 2, 3, 4],
                      entropy=[math.nan] * 4, phases=4)  # fmt: skip
    for _ in range(5):
        scores = {m: {q: rng.random(4).tolist() for q in QUANTITIES} for m in ("slow", "fast", "carried")}
        results.add(columns=[0, 1, 2, 3], scores=scores, base=None)
    found = catalogue.metrics(results)
    for quantity in QUANTITIES:
        for harm, whole in (("forgetting", "forgetting_at_learn"), ("plasticity", "plasticity_loss")):
            parts = [found[f"split/{quantity}/{harm}_{part}"] for part in ("slow", "read", "carried")]
            assert parts[0] == pytest.approx(found[f"slow/{quantity}/{whole}"])
            assert sum(parts[:2]) == pytest.approx(found[f"fast/{quantity}/{whole}"])
            assert sum(parts) == pytest.approx(found[f"carried/{quantity}/{whole}"])
        assert found[f"slow/{quantity}/plasticity_loss"] == -found[f"slow/{quantity}/learning_slope"]
        assert found[f"split/{quantity}/lost_knowledge"] == found[f"fast/{quantity}/forgetting_at_learn"]
        assert found[f"split/{quantity}/lost_knowledge_carried"] == found[f"carried/{quantity}/forgetting_at_learn"]
        whole = found[f"split/{quantity}/lost_knowledge"] + found[f"split/{quantity}/lost_access"]
        assert whole == pytest.approx(found[f"slow/{quantity}/forgetting_at_learn"])
    without = [name for name in catalogue.names(by_hand()) if name.startswith("split/") and "carried" in name]
    assert without == []


def test_the_interval_of_a_slope_is_that_of_least_squares():
    from scipy.stats import linregress, t

    y = np.array([0.9, 0.7, 0.8, 0.5, 0.6])
    a = np.vstack([np.zeros(5), np.diag(y)])
    found, reference = slope_interval(a, np.arange(1, 6)), linregress(np.arange(5), y)
    half = t.ppf(0.975, 3) * reference.stderr
    assert found == pytest.approx((reference.slope, reference.slope - half, reference.slope + half))
    assert math.isnan(slope_interval(a[:3, :2], np.arange(1, 3)).low)
    results = by_hand()
    slopes = [catalogue.metric(results, f"slow/loss/{name}") for name in ("slope_low", "learning_slope", "slope_high")]
    assert slopes == sorted(slopes)


def test_which_way_is_better():
    for name in ("min_acc", "wc_acc", "lca_10"):
        assert (better(f"fast/loss/{name}"), better(f"fast/accuracy/{name}")) == (-1, 1)
    for name in ("gap_depth", "gap_length_censored", "windowed_forgetting", "steps_to_criterion", "plasticity_loss"):
        assert better(f"fast/loss/{name}") == better(f"fast/accuracy/{name}") == -1
    for name in ("windowed_plasticity", "savings_slow", "savings_fast", "slope_low"):
        assert better(f"fast/loss/{name}") == better(f"fast/accuracy/{name}") == 1
    assert better("fast/loss/savings_slow_censored") == -1
    assert better("split/loss/forgetting_slow") == better("split/loss/plasticity_read") == -1
    assert better("split/loss/lost_knowledge") == -1
    assert better("split/loss/lost_access") == better("fast_gain/loss/lost_access") == -1
    assert better("fast_gain/loss/access_recovered") == better("fast_gain/loss/avg_final") == 1
    assert better("split/loss/fast_share_plasticity") == 1
    assert better("slow/plasticity/dormant_tau0.1") == better("fast/drift/kl_base") == -1
    assert better("slow/plasticity/erank") == better("carried/plasticity/erank") == 1


def test_sinks_show_points_along_steps():
    scores = {"slow": {q: [1.0, 3.0] for q in QUANTITIES}}
    event = Probed(
        task=2, task_step=5, columns=[0, 1], current=1, seen=[0], step=15, tokens=99, seconds=1.0, tasks=scores
    )
    shown = event_numbers(event)
    assert shown["anytime/slow/loss/current"] == 3
    assert shown["anytime/slow/loss/old"] == 1
    assert shown["anytime/slow/loss/seen"] == 2
    assert axis_values(event) == {"axis/step": 15, "axis/tokens": 99, "axis/task": 2, "axis/seconds": 1.0}
    again = Relearned(task=1, steps=[0, 5], scores=scores, step=30, tokens=9, seconds=2.0)
    assert event_numbers(again)["relearned/steps"] == 5
    assert {name.split("/")[0] for name in (*shown, *event_numbers(again))} <= set(FAMILIES)
    assert json.loads(json.dumps(plain(asdict(event))))["current"] == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("eval.anytime=0", "eval.anytime=0: must be null or a number of steps, at least 1"),
        ("eval.anytime=abc", "eval.anytime=abc: must be null or a number of steps, at least 1"),
        ("eval.anytime=2.5", "eval.anytime=2.5: must be null or a number of steps, at least 1"),
        ("eval.anytime=true", "eval.anytime=true: must be null or a number of steps, at least 1"),
        ("eval.savings=true", "eval.savings=true: needs the steps between its evaluations, such as eval.anytime=5"),
        ("eval.savings=2", "eval.savings=2: must be true or false"),
        ("eval.diagnostics=no-way", "eval.diagnostics=no-way: must be true or false"),
        ("eval.anytme=2", "eval.anytme=2: no 'anytme' in eval; did you mean anytime?"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(typed, said, tmp_path):
    outcome = run_here([*SMALL, *FAST, "base=none", typed], tmp_path)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
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
