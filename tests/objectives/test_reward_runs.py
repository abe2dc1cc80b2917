"""Whole runs of `objective=reward`, with and without prompts: their records, and resuming."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from harness import only_run, run_here
from interrupted import interrupted_run
from omegaconf import OmegaConf
from policies import ALONE, POOL, RULES

from ttt.cli.compare import default_metrics
from ttt.cli.sweeps.sweep import objective_of
from ttt.compare.frontier import default_axes
from ttt.compare.groups import group_runs, headline
from ttt.compare.runs import find_runs, read_run
from ttt.results import catalogue
from ttt.results.scores import quantity_of

# An entropy bonus, so that answers without a reward are read again too.
TYPED = {"pool": [*RULES, *POOL, "objective.entropy=0.01"], "alone": [*RULES, *ALONE]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run under each name of TYPED, and what their commands printed."""
    folder, screens = tmp_path_factory.mktemp("finished"), {}
    for name, typed in TYPED.items():
        (folder / name).mkdir()
        outcome = run_here(typed, folder / name)
        assert outcome.code == 0, outcome.err
        screens[name] = outcome.out
    return folder, screens


@pytest.mark.parametrize("name", TYPED)
def test_a_run_that_stopped_inside_a_cycle_resumes_bit_exactly(name, finished, tmp_path, monkeypatch):
    """With 4 steps a task and 3 a cycle, the first task ends inside a cycle."""
    resumed = interrupted_run(TYPED[name], tmp_path, monkeypatch, rows=2)
    assert (resumed / "results.json").read_bytes() == (only_run(finished[0] / name) / "results.json").read_bytes()


def test_a_run_records_what_it_earned_and_spent(finished):
    folder = only_run(finished[0] / "pool")
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [event for event in events if event["event"] == "trained"][-1]["terms"]
    # 8 steps of 4 problems of 8 rollouts; rounds before steps 1, 4 and 7.
    assert last["rollouts"] == 8 * 32
    assert last["rounds"] == 3
    assert 0 < last["fast_rollouts"] <= 3 * 160
    assert last["logp_gap"] < 1e-4
    assert last["entropy"] > 0
    assert 0 <= last["zero_variance"] <= 1
    results = json.loads((folder / "results.json").read_text())
    assert list(results["rows"][0]["scores"]) == ["slow", "fast", "carried", "archived"]
    assert "reward" in results["rows"][0]["scores"]["slow"]


def test_a_policy_is_shown_with_the_prompt_in_use(finished):
    """Screen and tables show success in mode carried, which without prompts is mode slow."""
    folder, screens = finished
    for screen in screens.values():
        assert f"R: {quantity_of('success').label}" in screen
        assert ", mode carried;" in screen
        assert ": training reward 0.0" in screen
    runs = [read_run(path) for path in find_runs([str(folder)]).done]
    groups = group_runs(runs)
    assert len(runs) == 2
    assert headline(groups) == "carried/success"
    assert default_axes(groups) == ("carried/success/avg_learning", "carried/success/forgetting_max_seen")
    assert "carried/success/avg_final" in default_metrics(groups)
    alone = next(run for run in runs if run.config["adapter.name"] == "none").results.rows[-1]["scores"]
    assert alone["carried"] == alone["slow"]


@pytest.mark.parametrize("quantity", ["success", "loss"])
@pytest.mark.parametrize("name", TYPED)
def test_forgetting_splits_into_that_of_weights_and_of_prompts(name, quantity, finished):
    numbers = catalogue.metrics(read_run(only_run(finished[0] / name)).results)
    parts = [numbers[f"split/{quantity}/forgetting_{part}"] for part in ("slow", "carried")]
    assert sum(parts) == pytest.approx(numbers[f"carried/{quantity}/forgetting_at_learn"], abs=1e-12)
    assert f"split/{quantity}/forgetting_read" not in numbers
    gain = numbers[f"carried/{quantity}/avg_final"] - numbers[f"slow/{quantity}/avg_final"]
    sign = quantity_of(quantity).sign
    assert numbers[f"fast_gain/{quantity}/avg_final"] == pytest.approx(sign * gain, abs=1e-12)


def test_prompts_on_the_base_are_read_without_what_a_strategy_keeps_for_a_task(tmp_path: Path):
    strategy = ("strategy=lora_task", "strategy.per=task", "task.announced=true", "optimizer.lr=0.05")
    outcome = run_here([*RULES, *POOL, *strategy, "objective.cycle.fast_budget=0", "objective.entropy=1"], tmp_path)
    assert outcome.code == 0, outcome.err
    # No budget: the search is switched off, and only the strategy learns.
    rows = json.loads((only_run(tmp_path) / "results.json").read_text())["rows"]
    # The prompt never changes here, so neither does the base behind it; the learned weights do.
    assert rows[-1]["scores"]["fast"]["loss"] == rows[0]["scores"]["fast"]["loss"]
    assert rows[-1]["scores"]["slow"]["loss"] != rows[0]["scores"]["slow"]["loss"]


def test_another_text_of_a_proposer_of_the_users_own_is_another_run(tmp_path: Path, monkeypatch):
    folder = tmp_path / "extra"
    folder.mkdir()
    module = folder / "proposes_nothing.py"
    module.write_text("def same(candidate, dataset, components):\n    return candidate\n")
    search = ("adapter.proposer=callable", "adapter.propose=proposes_nothing:same")
    typed = [*RULES, *POOL, "--config-dir", str(folder), *search]
    # The command extends both.
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert run_here(typed, tmp_path).code == 0
    assert "already done" in run_here(typed, tmp_path).out
    module.write_text("def same(candidate, dataset, components):\n    return {}\n")
    assert run_here(typed, tmp_path).code == 0
    assert len(list(tmp_path.glob("outputs/*/*/*/results.json"))) == 2


def test_a_sweep_follows_the_objective():
    def config(objective: str, target: str = "auto"):
        return OmegaConf.create({"objective": {"name": objective}, "sweep": {"objective": target}})

    assert objective_of(config("next_token")) == "fast/loss/avg_learning"
    assert objective_of(config("reward")) == "carried/success/avg_learning"
    assert objective_of(config("reward", "slow/loss/avg_final")) == "slow/loss/avg_final"
