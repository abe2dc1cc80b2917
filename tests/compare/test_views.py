"""The other views of ttt-compare: frontier, tasks, curves; their pictures, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from comparisons import cells, compare, refusal, write_run
from fake_runs import make_run
from scipy.stats import t

from ttt.compare.runs import read_run

METRIC = "fast/loss/avg_final"
# Of a run of one number both axes are that number.
AXES = ("--frontier", "--axes", METRIC, "slow/loss/avg_before")


def test_the_frontier_is_the_area_over_all_rates(study, tmp_path):
    folder, values = study
    plot = tmp_path / "frontier.svg"
    rows = cells(folder, *AXES, "--plot", plot)
    # A seed's area is the square of the distance between its best value and the worst of all.
    worst = max(v.max() for v in values.values())
    best = {adapter: np.minimum(values[adapter, 0.1], values[adapter, 0.2]) for adapter in ("mlp_fast", "none")}
    areas = {adapter: (worst - x) ** 2 for adapter, x in best.items()}
    area = {cell["adapter.name"]: cell for cell in rows if cell["column"] == "area"}
    more = {cell["adapter.name"]: cell for cell in rows if cell["difference"]}
    for adapter, x in areas.items():
        assert area[adapter]["mean"] == pytest.approx(x.mean())
        assert area[adapter]["sd"] == pytest.approx(x.std(ddof=1))
        assert area[adapter]["optimizer.lr"] == "0.1 0.2"
    assert more["none"]["mean"] == pytest.approx((areas["none"] - areas["mlp_fast"]).mean())
    assert "better" in plot.read_text()


def test_a_frontier_leaves_out_what_is_not_measured_and_compares_equal_rates(own_study):
    folder, values = own_study
    before = {cell["adapter.name"]: cell for cell in cells(folder, *AXES) if cell["column"] == "area"}
    for seed in range(len(values["none", 0.1])):
        write_run(folder, seed=seed, lr=0.3, value=float("nan"), adapter="none")
    rows = cells(folder, *AXES)
    area = {cell["adapter.name"]: cell["mean"] for cell in rows if cell["column"] == "area"}
    # The worst values are those of measured runs; a line with a hole has no area.
    assert area == {"mlp_fast": before["mlp_fast"]["mean"], "none": None}
    assert {cell["mean"] for cell in rows if cell["difference"]} == {None}


def test_a_frontier_says_how_many_pairs_its_difference_has(tmp_path):
    for adapter, seeds in (("mlp_fast", 3), ("none", 5)):
        for seed in range(seeds):
            for lr in (0.1, 0.2):
                write_run(tmp_path, seed=seed, lr=lr, value=seed + lr, adapter=adapter)
    seeds = {cell["adapter.name"]: cell["seeds"] for cell in cells(tmp_path, *AXES)}
    assert seeds == {"mlp_fast": "3", "none": "5, difference 3"}


def test_a_curve_is_the_metric_along_the_stream(tmp_path):
    run = make_run(tmp_path, seed=0, tasks=3, noise=0.0)
    curve = cells(tmp_path, "--curve", METRIC, "--plot", tmp_path / "curve.svg")
    slow, r = (read_run(run).results.matrix(mode, "loss") for mode in ("slow", "fast"))
    assert [cell["mean"] for cell in curve] == [None, *(pytest.approx(r[i, :i].mean()) for i in (1, 2, 3))]
    gain = cells(tmp_path, "--curve", "fast_gain/loss/avg_final")
    assert gain[3]["mean"] == pytest.approx((slow - r)[3].mean())


def test_tasks_one_by_one(study, tmp_path):
    folder, values = study
    plot = tmp_path / "tasks.svg"
    shown = compare(folder, "--per-task", "fast/loss/final", "--format", "markdown", "--plot", plot)
    assert shown.code == 0, shown.err
    (line,) = (line for line in shown.out.splitlines() if line.startswith("| one task"))
    for x in values.values():
        assert f"{x.mean():.3f} ±{t.ppf(0.975, 4) * x.std(ddof=1) / np.sqrt(5):.3f}" in line
    assert "<svg" in plot.read_text()


def test_a_mode_that_only_some_runs_have_is_empty_for_the_others(tmp_path):
    make_run(tmp_path, tasks=3, journal=False, overrides=["adapter=none"])
    make_run(tmp_path, tasks=3, journal=False, overrides=["adapter=mlp_fast", "adapter.reset=task"])
    for typed in (["--per-task", "carried/loss/final"], ["--curve", "carried/loss/avg_final"]):
        last = {cell["column"]: cell["mean"] for cell in cells(tmp_path, *typed)}
        assert {column for column, mean in last.items() if mean is None} == {"adapter=none"}
        assert len(last) == 2


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--metrics", "fast/loss/avg_finl"], ["--metrics fast/loss/avg_finl", "did you mean fast/loss/avg_final?"]),
        (["--sort", "fast/loss/avg_finl"], ["--sort", "did you mean fast/loss/avg_final?"]),
        (["--per-task", "fast/loss"], ["--per-task fast/loss", "fast/accuracy/final"]),
        (["--per-task", "fsat/loss/final"], ["'fsat'", "did you mean fast?"]),
        (["--curve", "fast/loss/avg_finl"], ["'avg_finl'", "did you mean avg_final?"]),
        (["--frontier", "optimizer.l"], ["--frontier optimizer.l", "did you mean optimizer.lr?"]),
        (["--where", "adapter.name=non"], ["adapter.name=non", "did you mean none?"]),
        (["--plot", "x.svg"], ["--plot x.svg", "--frontier, --per-task or --curve"]),
        (["--per-task", "fast/loss/final", "--plot", "x.bmp"], ["x.bmp", ".svg, .pdf, .png, .pgf"]),
        (["--published", "--sort", METRIC], ["--sort", "--published"]),
        (["--claims", "--wandb"], ["--wandb", "--claims"]),
    ],
)
def test_wrong_words(typed, words, study):
    message = refusal(study[0], *typed)
    assert all(word in message for word in words), message


def test_folders_without_runs(tmp_path):
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")
    assert str(tmp_path) in refusal(tmp_path)


def test_a_comparison_in_a_tracker(own_study, monkeypatch):
    """Without a login W&B keeps it offline: the table cell by cell, and the pictures."""
    folder, _ = own_study
    monkeypatch.setenv("WANDB_MODE", "offline")
    shown = compare(folder, "--metrics", METRIC, "--wandb")
    assert shown.code == 0, shown.err
    (run,) = (folder / "wandb").glob("offline-run-*")
    assert f"wandb sync {run}" in shown.err
    (file,) = run.rglob("table_*.table.json")
    table = json.loads(file.read_text())
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == cells(
        folder, "--metrics", METRIC
    )
    # One task has no forgetting, and so no frontier.
    pictures = {path.name.split("_")[0] for path in run.rglob("*.png")}
    assert pictures == {"curve-seen", "curve-forgetting", "curve-gain", "tasks-learned"}
