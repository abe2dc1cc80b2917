"""sweep.tune_on: hyper-parameters chosen on some seeds, reported on others."""

from __future__ import annotations

import json

import pytest
from commands import assert_refused, typed
from harness import run_here
from sweeping import SGD

from ttt.cli import compare
from ttt.cli.runs.check import check_command
from ttt.cli.runs.parser import parse_command
from ttt.cli.sweeps.study import expand
from ttt.cli.sweeps.sweep import Sweep

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("sweeps")
WORDS = ["-m", *SGD, "adapter=none", "optimizer.lr=0.1,1e-3,1e30", "seeds=3", "sweep.tune_on=[0]"]
METRIC = "fast/loss/avg_learning"


def tuning_of(*words):
    """Return the tuning of a command, and its runs to choose on and to report."""
    (command,) = expand(parse_command(["-m", *words]))
    sweep = Sweep.of(check_command(command), typed=command.overrides, config_dir=None)
    return (sweep.tuning, *sweep.tuning.divide(sweep.runs()))


def numbers(runs, key):
    return [next(word.partition("=")[2] for word in run if word.startswith(f"{key}=")) for run in runs]


def test_runs_to_choose_on_share_no_seed_with_those_that_report():
    tuning, first, rest = tuning_of(
        "adapter=none,mlp_fast", "optimizer.lr=1e-4,1e-3", "task.num_tasks=2,3", "seeds=4",
        "sweep.tune_on=[0,3]",
    )  # fmt: skip
    assert tuning.keys == ["optimizer.lr"]
    assert set(numbers(first, "seed")) == {"0", "3"}
    assert set(numbers(rest, "seed")) == {"1", "2"}
    assert len(first) == len(rest) == 16
    # A stream of another length is another question, not another setting of the method.
    assert tuning.count(rest) == 8
    # The low rate is better for one adapter, the high rate for the other.
    values = [1.0 - (("adapter=none" in run) == ("optimizer.lr=0.0001" in run)) for run in first]
    chosen = tuning.chosen(rest, tuning.choose(first, values))
    assert len(chosen) == 8
    assert all(("adapter=none" in run) == ("optimizer.lr=0.0001" in run) for run in chosen)


def test_bases_to_choose_on_are_apart_too():
    words = ("optimizer.lr=1e-4,1e-3", "seeds=3", "base.seed=0,1")
    _, first, rest = tuning_of(*words, "sweep.tune_on=[0]", "sweep.tune_on_bases=[1]")
    assert {*zip(numbers(first, "seed"), numbers(first, "base.seed"), strict=True)} == {("0", "1")}
    assert {*zip(numbers(rest, "seed"), numbers(rest, "base.seed"), strict=True)} == {("1", "0"), ("2", "0")}
    # Each seed has a base of its own number.
    for word in ("base.seed=each", "base.seed=${seed}", "base=none"):
        _, first, rest = tuning_of("optimizer.lr=1e-4,1e-3", "seeds=3", word, "sweep.tune_on_bases=[1]")
        assert (set(numbers(first, "seed")), set(numbers(rest, "seed"))) == ({"1"}, {"0", "2"})


def test_what_is_tuned_can_be_named():
    words = ("optimizer.lr=1e-4,1e-3", "adapter.reset=task,never", "seeds=2", "sweep.tune_on=[1]")
    assert tuning_of(*words)[0].keys == ["adapter.reset", "optimizer.lr"]
    tuning, _, rest = tuning_of(*words, "sweep.tune=[optimizer.lr]")
    assert tuning.count(rest) == 2
    # Nothing to choose: only the seeds that report run.
    tuning, first, rest = tuning_of("adapter=none,mlp_fast", "seeds=3", "sweep.tune_on=[0]")
    assert (first, len(rest), tuning.count(rest)) == ([], 4, 4)
    assert tuning.chosen(rest, {}) == rest


WRONG = [
    (["sweep.tune_on=0"], ["sweep.tune_on=0", "[0]"]),
    (["sweep.tune_on=[a]"], ["sweep.tune_on=", "[0]"]),
    (["sweep.tune_on=[7]"], ["sweep.tune_on=[7]", "no run"]),
    (["sweep.tune_on=[0]", "sweep.tune=[optimizer.l]"], ["sweep.tune=optimizer.l", "did you mean optimizer.lr?"]),
    (["sweep.tune_on=[0]", "sweep.objective=fast/loss/avg"], ["sweep.objective=fast/loss/avg"]),
    (["sweep.tune_on=[0]", "hydra/launcher=joblib"], ["sweep.tune_on", "hydra/launcher=joblib"]),
]


@pytest.mark.parametrize(("words", "parts"), WRONG, ids=lambda value: value[-1])
def test_wrong_words(words, parts, tmp_path):
    outcome = run_here(["-m", *SGD, "adapter=none", "optimizer.lr=0.1,0.2", "seeds=2", *words], tmp_path)
    assert_refused(outcome, *parts)
    assert not list(tmp_path.glob("outputs/*"))


def test_the_best_rate_runs_on_the_other_seeds_and_they_alone_are_compared(tmp_path):
    planned = run_here([*WORDS, "--dry-run"], tmp_path)
    assert planned.out.endswith("5 runs: 0 done, 5 to do\n")
    outcome = run_here(WORDS, tmp_path)
    # A rate that fails costs the exit code, not the choice.
    assert (outcome.code, outcome.out.count(": done")) == (1, 4), outcome.out
    assert "optimizer.lr=1e+30 failed" in outcome.out
    runs = {path.parent: json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/*/results.json")}
    records = {path.parent: json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/*/tuning.json")}
    assert set(runs) == set(records)
    by_role = {role: {folder for folder in runs if records[folder]["role"] == role} for role in ("tuning", "reporting")}
    assert {folder.name[:5] for folder in by_role["tuning"]} == {"seed0"}
    assert {folder.name[:5] for folder in by_role["reporting"]} == {"seed1", "seed2"}
    best = min(by_role["tuning"], key=lambda folder: runs[folder]["metrics"][METRIC])
    rate = next(word for word in ("0.1", "0.001") if f"lr: {word}\n" in (best / "config.yaml").read_text())
    for folder in by_role["reporting"]:
        assert f"lr: {rate}\n" in (folder / "config.yaml").read_text()
        assert records[folder]["chosen"] == [f"optimizer.lr={rate}"]
        assert records[folder]["on"] == {"seed": [0]}
    shown = typed(compare.main, "ttt-compare", tmp_path / "outputs", "--metrics", METRIC, "--format", "csv")
    assert shown.out.splitlines()[1].split(",")[:2] == ["all runs", "2"] or ",2," in shown.out
    assert f"optimizer.lr={rate}" in shown.err
    # Once the choice is known, a dry run names the folders that it leads to.
    planned = run_here([*WORDS, "--dry-run", "--only", "optimizer.lr=0.1,0.001"], tmp_path)
    assert planned.out.endswith("4 runs: 4 done, 0 to do\n"), planned.out
