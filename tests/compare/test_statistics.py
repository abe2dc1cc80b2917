"""ttt-compare over other samples: ratios, bootstraps, medians over tasks, strata and nulls."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from comparisons import cells, compare, refusal
from fake_runs import make_run

from ttt.cli.sweeps import nulls
from ttt.compare.nulls import Null
from ttt.compare.runs import read_run
from ttt.metrics.seeds import fieller, ratio_difference
from ttt.run.compose import compose_run
from ttt.storage.read import flatten

RATIO = "slow/loss/forgetting_per_gained"
SCRIPTS = ["Latin", "Greek", "Latin", "Latin", "Greek"]
SEEDS = 3


def tag(run, scripts):
    """Write the tags of a run's tasks, as a source with tags has them written."""
    content = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(content | {"tags": [{"script": script} for script in scripts]}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(folder, adapter -> oriented matrices [seeds, 6, 5]) of five tasks with tags."""
    folder, matrices = tmp_path_factory.mktemp("runs"), {}
    for adapter in ("none", "mlp_fast"):
        for seed in range(SEEDS):
            learned = 2.5 + 0.3 * (adapter == "none")
            run = make_run(folder, seed=seed, overrides=[f"adapter={adapter}"], learned=learned, journal=False)
            tag(run, SCRIPTS)
            matrices.setdefault(adapter, []).append(-read_run(run).results.matrix("slow", "loss"))
    return folder, {adapter: np.array(a) for adapter, a in matrices.items()}


def parts(a):
    """Forgotten and gained of each task that can be forgotten [seeds, 4, 2], of a stream in order."""
    learned = np.diagonal(a, -1, axis1=1, axis2=2)
    return np.stack([learned - a[:, -1], learned - a[:, 0]], axis=-1)[:, :-1]


def by_adapter(*args):
    return {cell["adapter.name"]: cell for cell in cells(*args)}


def test_a_ratio_divides_sums_over_seeds(runs):
    folder, matrices = runs
    pairs = {adapter: parts(a).mean(1) for adapter, a in matrices.items()}
    for adapter, cell in by_adapter(folder, "--metrics", RATIO).items():
        interval = fieller(pairs[adapter])
        assert cell["mean"] == pytest.approx(pairs[adapter][:, 0].sum() / pairs[adapter][:, 1].sum())
        assert (cell["low"], cell["high"]) == pytest.approx((interval.low, interval.high))
    cell = by_adapter(folder, "--metrics", RATIO, "--baseline", "adapter.name=none")["mlp_fast"]
    interval = ratio_difference(pairs["mlp_fast"], pairs["none"])
    assert (cell["low"], cell["mean"]) == pytest.approx((interval.low, interval.mean))
    assert cell["difference"]


def test_levels_and_changes_stand_side_by_side(runs):
    columns = {cell["column"].split("/")[2] for cell in cells(runs[0])}
    assert columns == {"avg_before", "gained", "forgetting_max_seen", "avg_final", "forgetting_per_gained"}


def test_another_mean_over_tasks(runs):
    folder, matrices = runs
    for adapter, cell in by_adapter(folder, "--metrics", "slow/loss/avg_final", "--over-tasks", "median").items():
        medians = np.median(-matrices[adapter][:, -1], axis=1)
        assert (cell["mean"], cell["sd"]) == pytest.approx((medians.mean(), medians.std(ddof=1)))
    ratio = by_adapter(folder, "--metrics", RATIO, "--over-tasks", "median")["none"]["mean"]
    medians = np.median(parts(matrices["none"]), axis=1)
    assert ratio == pytest.approx(medians[:, 0].sum() / medians[:, 1].sum())


def test_a_row_for_each_script(runs):
    folder, matrices = runs
    rows = cells(folder, "--by", "script", "--metrics", "slow/loss/avg_final", RATIO, "--baseline", "adapter.name=none")
    means = {(cell["adapter.name"], cell["script"], cell["column"]): cell["mean"] for cell in rows}
    greek = [j for j, script in enumerate(SCRIPTS) if script == "Greek"]
    assert len(means) == 2 * 2 * 2
    final = {adapter: -a[:, -1, greek].mean() for adapter, a in matrices.items()}
    assert means["none", "Greek", "slow/loss/avg_final"] == pytest.approx(final["none"])
    assert means["mlp_fast", "Greek", "slow/loss/avg_final"] == pytest.approx(final["mlp_fast"] - final["none"])
    # Of the two Greek tasks the last of the stream cannot be forgotten.
    first = parts(matrices["none"])[:, 1]
    assert means["none", "Greek", RATIO] == pytest.approx(first[:, 0].sum() / first[:, 1].sum())


def test_the_bootstrap_in_every_view(runs):
    folder, _ = runs
    metric = "slow/loss/avg_final"
    t, drawn = (by_adapter(folder, "--metrics", metric, "--interval", by)["none"] for by in ("t", "bootstrap"))
    assert drawn["mean"] == pytest.approx(t["mean"])
    # Tasks differ by their place in the stream, which is the same for all seeds.
    assert drawn["low"] < t["low"] < t["high"] < drawn["high"]
    curve = cells(folder, "--curve", metric, "--interval", "bootstrap")[-1]
    assert curve["low"] < curve["mean"] < curve["high"]
    shown = compare(folder, "--metrics", metric, RATIO, "--interval", "bootstrap")
    ends = f"[{drawn['low']:.3f}, {drawn['high']:.3f}]"
    assert ends in shown.out
    assert ends in compare(folder, "--metrics", metric, "--interval", "bootstrap", "--format", "latex").out


def test_a_bootstrap_pools_bases(tmp_path):
    for base in (0, 1):
        for seed in range(2):
            run = make_run(tmp_path / str(base), seed=seed, tasks=3, journal=False)
            config = yaml.safe_load((run / "config.yaml").read_text())
            config["base"]["seed"] = base
            (run / "config.yaml").write_text(yaml.safe_dump(config))
    metric = "slow/loss/avg_final"
    assert [cell["n"] for cell in cells(tmp_path, "--metrics", metric)] == [2, 2]
    assert [cell["n"] for cell in cells(tmp_path, "--metrics", metric, "--interval", "bootstrap")] == [4]


NULL = ("--null", "task=stationary")


def test_a_null_is_subtracted_run_for_run(tmp_path):
    runs, null_runs = [], []
    for seed in range(SEEDS):
        runs.append(make_run(tmp_path, seed=seed, journal=False))
        null_runs.append(make_run(tmp_path, seed=seed, overrides=["task=stationary"], learned=5.9, journal=False))
    # Another setting is nobody's null.
    make_run(tmp_path, seed=0, overrides=["task=stationary", "optimizer.lr=0.5"], journal=False)
    (cell,) = cells(tmp_path, *NULL, "--metrics", "slow/loss/avg_final")
    differences = [
        read_run(run).metric("slow/loss/avg_final") - read_run(null).metric("slow/loss/avg_final")
        for run, null in zip(runs, null_runs, strict=True)
    ]
    assert cell["mean"] == pytest.approx(np.mean(differences))
    assert cell["sd"] == pytest.approx(np.std(differences, ddof=1))
    assert cell["column"] == "slow/loss/avg_final, minus null"
    assert cell["resolved"]
    (drawn,) = cells(tmp_path, *NULL, "--metrics", "slow/loss/avg_final", "--interval", "bootstrap")
    assert drawn["mean"] == pytest.approx(cell["mean"])


def test_missing_nulls_are_refused_or_started(tmp_path, monkeypatch):
    run = make_run(tmp_path, seed=4, overrides=["adapter=none", "task.steps_per_task=7"], journal=False)
    assert "1 of 1 runs have no null" in refusal(tmp_path, *NULL, "--no-start")
    words = nulls.null_overrides(read_run(run), Null(["task=stationary"]))
    config = compose_run(words)
    assert (config["task"]["name"], config["task"]["steps_per_task"], config["seed"]) == ("stationary", 7, 4)
    assert config["output_dir"] == str(tmp_path)
    assert Null(["task=stationary"]).belongs(flatten(config), read_run(run).config)

    def start(self, commands):
        assert commands == [words]
        make_run(tmp_path, seed=4, overrides=words[:-2], journal=False)
        return 0

    monkeypatch.setattr(nulls.Sweep, "run_all", start)
    shown = compare(tmp_path, *NULL, "--metrics", "slow/loss/avg_final")
    assert shown.code == 0, shown.err
    assert "1 null (task=stationary) to run" in shown.err
    # The next time it is there.
    assert compare(tmp_path, *NULL, "--no-start").code == 0


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--by", "scrpt"], ["--by scrpt", "did you mean script?"]),
        (["--by", "script", "--metrics", "slow/loss/gap_depth"], ["--metrics slow/loss/gap_depth"]),
        (["--by", "script", "--metrics", "cost/run/seconds"], ["--by script", "cost/run/seconds"]),
        (["--over-tasks", "medin"], ["--over-tasks medin", "did you mean median?"]),
        (
            ["--over-tasks", "median", "--metrics", "slow/loss/bwt_pairs"],
            ["--over-tasks median", "slow/loss/bwt_pairs"],
        ),
        (["--interval", "boot"], ["--interval boot", "bootstrap"]),
        (["--null", "task"], ["--null task", "KEY=VALUE"]),
        (["--null", "tsk=stationary"], ["--null tsk=stationary", "did you mean task?"]),
        (["--null", "task=stationry"], ["--null task=stationry", "did you mean stationary?"]),
        (["--null", "adapter.nme=none"], ["--null adapter.nme=none", "did you mean adapter.name?"]),
        (["--no-start"], ["--no-start", "--null"]),
        (["--curve", "slow/loss/avg_final", "--by", "script"], ["--by", "--curve"]),
        (["--published", "--null", "task=stationary"], ["--null", "--published"]),
    ],
)
def test_wrong_words(typed, words, runs):
    message = refusal(runs[0], *typed)
    assert all(word in message for word in words), message


def test_runs_without_tags(tmp_path):
    run = make_run(tmp_path, tasks=2, journal=False)
    assert f"{run} has no tags" in refusal(tmp_path, "--by", "script")
