"""ttt-compare against numpy, on run folders written by hand."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from fake_runs import make_run
from scipy.stats import t

from ttt.compare.groups import group_runs
from ttt.compare.runs import find_runs, read_run
from ttt.results.results import Results
from ttt.results.saved import as_json
from ttt.results.scores import QUANTITIES

METRIC = "fast/loss/avg_final"


def write_run(folder, *, seed, lr, value, adapter="none", fingerprint="a"):
    folder = folder / f"{adapter}-{lr}" / f"seed{seed}"
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "base": {"name": "none", "seed": seed},
        "adapter": {"name": adapter},
        "optimizer": {"name": "adamw", "lr": lr},
        "logger": {"x": seed},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"trainer": {"threads": seed, "precision": "32-true"}}))
    results = Results(
        scenario="domain",
        tasks=["one task"],
        fingerprints=[fingerprint + str(seed)],
        learned_at=[1],
        entropy=[float("nan")],
        phases=1,
    )
    for _ in range(2):
        row = {mode: {quantity: [value] for quantity in QUANTITIES} for mode in ("slow", "fast")}
        results.add(columns=[0], scores=row, base=row)
    (folder / "results.json").write_text(json.dumps(as_json(results)))


@pytest.fixture
def study(tmp_path):
    rng = np.random.default_rng(0)
    values = {}
    for adapter in ("none", "mlp_fast"):
        for lr in (0.1, 0.2):
            values[adapter, lr] = rng.normal(size=5)
            for seed, value in enumerate(values[adapter, lr]):
                write_run(tmp_path, seed=seed, lr=lr, value=float(value), adapter=adapter)
    return tmp_path, values


def test_groups_are_all_but_the_seed_and_intervals_are_right(study):
    folder, values = study
    groups = group_runs([read_run(f) for f in find_runs([str(folder)]).done])
    assert len(groups) == 4
    for group in groups:
        x = values[group.label["adapter.name"], group.label["optimizer.lr"]]
        interval = group.interval(METRIC)
        assert interval.n == 5
        assert interval.mean == pytest.approx(x.mean())
        low, high = t.interval(0.95, 4, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(5))
        assert interval.half == pytest.approx((high - low) / 2)
        assert np.isnan(group.interval("fast/loss/bwt_gem").mean)


def compare(*args):
    command = [sys.executable, "-m", "ttt.cli.compare", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def cells(*args):
    """What --format json gives: (key words, column) -> cell."""
    done = compare(*args, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["cells"]


def test_as_typed(study):
    folder, values = study
    found = cells(folder, "--metrics", METRIC)
    assert [(cell["adapter.name"], cell["optimizer.lr"]) for cell in found] == [
        ("mlp_fast", "0.1"),
        ("mlp_fast", "0.2"),
        ("none", "0.1"),
        ("none", "0.2"),
    ]
    for cell in found:
        x = values[cell["adapter.name"], float(cell["optimizer.lr"])]
        assert cell["mean"] == pytest.approx(x.mean())
        assert cell["sd"] == pytest.approx(x.std(ddof=1))
        assert (cell["low"], cell["high"]) == pytest.approx(
            t.interval(0.95, 4, loc=x.mean(), scale=x.std(ddof=1) / 5**0.5)
        )
        assert cell["n"] == 5
        # A mean of losses is not called resolved: zero means nothing for it.
        assert not cell["resolved"]
        assert cell["best"] == (x.mean() == min(v.mean() for v in values.values()))


def test_every_format_says_the_same(study):
    folder, values = study
    mean = f"{values['mlp_fast', 0.2].mean():.3f}"
    (row,) = (
        r
        for r in csv.DictReader(compare_out(folder, "csv"))
        if r["adapter.name"] == "mlp_fast" and r["optimizer.lr"] == "0.2"
    )
    assert f"{float(row['mean']):.3f}" == mean
    assert any(f"{mean} ±" in line for line in compare_out(folder, "markdown") if "mlp_fast | 0.2 | 5" in line)
    latex = compare_out(folder, "latex")
    assert latex[1] == r"\begin{tabular}{lllr}"
    assert [line for line in latex if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert any(line.startswith(r"mlp\_fast & 0.2 & 5 & $") and mean in line for line in latex)
    assert sum("mathbf" in line for line in latex) == 1
    table = "\n".join(compare_out(folder, "table"))
    assert f"{mean} ±" in table
    assert "4 groups that differ in adapter.name, optimizer.lr" in table


def compare_out(folder, form):
    done = compare(folder, "--metrics", METRIC, "--format", form)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_paired_differences_to_a_baseline(study):
    folder, values = study
    found = cells(folder, "--metrics", METRIC, "--baseline", "adapter.name=none")
    for cell in found:
        lr = float(cell["optimizer.lr"])
        if cell["adapter.name"] == "none":
            assert not cell["difference"]
            continue
        d = values["mlp_fast", lr] - values["none", lr]
        half = t.ppf(0.975, 4) * d.std(ddof=1) / np.sqrt(5)
        flips = [np.mean(d * signs) for signs in itertools.product((1, -1), repeat=5)]
        assert cell["mean"] == pytest.approx(d.mean())
        assert cell["high"] - cell["mean"] == pytest.approx(half)
        assert cell["p"] == pytest.approx(np.mean(np.abs(flips) >= abs(d.mean()) - 1e-12))
        assert cell["resolved"] == (abs(d.mean()) > half)
    for typed, message in (
        ("adaptr.name=none", "did you mean adapter.name?"),
        ("adapter.name=non", "did you mean none?"),
    ):
        done = compare(folder, "--baseline", typed)
        assert done.returncode == 2
        assert message in done.stderr


def test_where_and_sort(study):
    folder, values = study
    found = cells(folder, "--metrics", METRIC, "--where", "optimizer.lr=1e-1", "seed=0,1,2", "--sort", METRIC)
    means = {adapter: values[adapter, 0.1][:3].mean() for adapter in ("none", "mlp_fast")}
    assert [cell["mean"] for cell in found] == pytest.approx(sorted(means.values()))
    assert [cell["best"] for cell in found] == [True, False]
    assert {cell["n"] for cell in found} == {3}
    # A pattern of folders does the same as a filter.
    assert len(cells(f"{folder}/none-*/seed*", "--metrics", METRIC)) == 2


def test_300_runs_against_numpy(tmp_path):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 30, 5)) + np.linspace(0, 1, 30)[:, None]
    for a, adapter in enumerate(("none", "mlp_fast")):
        for i in range(30):
            for seed in range(5):
                write_run(tmp_path, seed=seed, lr=i + 1, value=float(values[a, i, seed]), adapter=adapter)
    found = cells(tmp_path, "--metrics", METRIC, "--baseline", "adapter.name=none")
    assert len(found) == 60
    d = values[1] - values[0]
    signs = np.array(list(itertools.product((1, -1), repeat=5)))
    for cell in found:
        i = int(cell["optimizer.lr"]) - 1
        x = d[i] if cell["difference"] else values[0, i]
        assert cell["mean"] == pytest.approx(x.mean())
        assert cell["sd"] == pytest.approx(x.std(ddof=1))
        assert cell["high"] - cell["low"] == pytest.approx(2 * t.ppf(0.975, 4) * x.std(ddof=1) / 5**0.5)
        if cell["difference"]:
            flips = np.abs((signs * x).mean(axis=1))
            assert cell["p"] == pytest.approx((flips >= abs(x.mean()) - 1e-12).mean())


def test_what_cannot_be_pooled(study):
    folder, _ = study
    twin = folder / "twin"
    shutil.copytree(folder / "none-0.1" / "seed0", twin)
    done = compare(folder)
    assert done.returncode == 2
    assert "are both seed 0 of one method" in done.stderr
    # Cut short, as by a copy that broke off.
    text = (twin / "results.json").read_text()
    (twin / "results.json").write_text(text[: len(text) // 2])
    done = compare(folder)
    assert done.returncode == 2
    assert f"{twin}/results.json: cut short" in done.stderr
    assert "Traceback" not in done.stderr


def test_unfinished_runs_are_left_out_and_named(study):
    folder, _ = study
    for name, status in (("one", "running"), ("two", "failed")):
        (folder / name).mkdir()
        (folder / name / "status.json").write_text(json.dumps({"status": status}))
    done = compare(folder, "--metrics", METRIC)
    assert done.returncode == 0
    assert f"left out: 2 unfinished runs (1 failed, 1 running), the first in {folder}/one" in done.stderr
    done = compare(folder / "one")
    assert done.returncode == 2
    assert "holds no finished run (no results.json): 1 unfinished runs (1 running)" in done.stderr


def test_one_seed_claims_no_interval(study):
    folder, _ = study
    for cell in cells(folder, "--where", "seed=0", "--metrics", METRIC, "--baseline", "adapter.name=none"):
        assert cell["n"] == 1
        assert cell["sd"] is cell["low"] is cell["high"] is cell["p"] is None
        assert not cell["resolved"]


def test_the_frontier_is_the_area_over_all_rates(study):
    folder, values = study
    axes = [METRIC, "slow/loss/avg_before"]
    plot = folder / "frontier.svg"
    found = cells(folder, "--frontier", "--axes", *axes, "--plot", plot)
    # Both metrics are one value here, so that a seed's area is the square of its best distance to the worst.
    worst = max(v.max() for v in values.values())
    best = {a: np.minimum(values[a, 0.1], values[a, 0.2]) for a in ("mlp_fast", "none")}
    areas = {a: (worst - x) ** 2 for a, x in best.items()}
    area = {c["adapter.name"]: c for c in found if c["column"] == "area"}
    more = {c["adapter.name"]: c for c in found if c["difference"]}
    for adapter, x in areas.items():
        assert area[adapter]["mean"] == pytest.approx(x.mean())
        assert area[adapter]["sd"] == pytest.approx(x.std(ddof=1))
        assert area[adapter]["optimizer.lr"] == "0.1 0.2"
    d = areas["none"] - areas["mlp_fast"]
    assert more["none"]["mean"] == pytest.approx(d.mean())
    assert "better" in plot.read_text()


def test_a_frontier_leaves_out_what_is_not_measured_and_compares_equal_rates(study):
    folder, values = study
    axes = [METRIC, "slow/loss/avg_before"]
    before = {c["adapter.name"]: c for c in cells(folder, "--frontier", "--axes", *axes) if c["column"] == "area"}
    for seed in range(len(values["none", 0.1])):
        write_run(folder, seed=seed, lr=0.3, value=float("nan"), adapter="none")
    found = cells(folder, "--frontier", "--axes", *axes)
    area = {c["adapter.name"]: c["mean"] for c in found if c["column"] == "area"}
    # The worst values are those of runs that have some; a line with a hole has no area, the other keeps its own.
    assert area == {"mlp_fast": before["mlp_fast"]["mean"], "none": None}
    assert [c["mean"] for c in found if c["difference"]] == [None] * sum(c["difference"] for c in found)


def test_an_average_is_no_difference_from_zero(study):
    folder, _ = study
    assert not any(c["resolved"] for c in cells(folder, "--metrics", "fast/loss/fwt_pairs_raw", "fast/loss/avg_final"))


def test_a_curve_is_the_metric_along_the_stream(tmp_path):
    make_run(tmp_path, seed=0, tasks=3, noise=0.0)
    found = cells(tmp_path, "--curve", "fast/loss/avg_final", "--plot", tmp_path / "curve.svg")
    (folder,) = (path.parent for path in tmp_path.rglob("results.json"))
    r = read_run(folder).results.matrix("fast", "loss")
    assert [cell["mean"] for cell in found] == [None, *(pytest.approx(r[i, :i].mean()) for i in (1, 2, 3))]
    gain = cells(tmp_path, "--curve", "fast_gain/loss/avg_final")
    slow = read_run(folder).results.matrix("slow", "loss")
    assert gain[3]["mean"] == pytest.approx((slow - r)[3].mean())


def test_streams_that_differ_are_not_compared(study):
    folder, _ = study
    write_run(folder, seed=0, lr=0.3, value=1.0, fingerprint="b")
    done = compare(folder)
    assert done.returncode == 2
    assert "saw different streams (the data behind them differ)" in done.stderr


def test_wrong_words(study, tmp_path):
    folder, _ = study
    for args, message in (
        ([folder / "nowhere"], "no such file or folder"),
        ([folder, "--metrics", "fast/loss/avg_finl"], "did you mean fast/loss/avg_final?"),
        ([folder, "--published", "--sort", "fast/loss/avg_final"], "--sort: does not go with --published"),
        ([folder, "--claims", "--wandb"], "--wandb: does not go with --claims"),
    ):
        done = compare(*args)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    (tmp_path / "empty").mkdir()
    assert "holds no finished run" in compare(tmp_path / "empty").stderr


def test_a_base_for_every_seed_is_one_method(tmp_path):
    for seed in range(3):
        write_run(tmp_path, seed=seed, lr=0.1, value=float(seed))
        file = tmp_path / "none-0.1" / f"seed{seed}" / "config.yaml"
        file.write_text(file.read_text().replace("name: none\n  seed", "name: pretrain\n  seed"))
    assert [len(group.runs) for group in group_runs([read_run(f) for f in find_runs([str(tmp_path)]).done])] == [3]
    # One shared base and one of a run's own are two methods.
    file.write_text(file.read_text().replace("seed: 2", "seed: 0", 1))
    assert [len(group.runs) for group in group_runs([read_run(f) for f in find_runs([str(tmp_path)]).done])] == [2, 1]


def test_tasks_one_by_one(study):
    folder, values = study
    command = [
        sys.executable,
        "-m",
        "ttt.cli.compare",
        str(folder),
        "--per-task",
        "fast/loss/final",
        "--format",
        "markdown",
    ]
    plot = folder / "tasks.svg"
    done = subprocess.run([*command, "--plot", str(plot)], capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("| one task"))
    for x in values.values():
        assert f"{x.mean():.3f} ±{t.ppf(0.975, 4) * x.std(ddof=1) / np.sqrt(5):.3f}" in line
    assert "<svg" in plot.read_text()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--per-task", "fast/loss"], "must be three words, like fast/accuracy/final"),
        (["--per-task", "fsat/loss/final"], "did you mean fast?"),
        (["--plot", "x.svg"], "goes with --frontier, --per-task or --curve"),
        (["--curve", "fast/loss/avg_finl"], "did you mean avg_final?"),
        (["--frontier", "optimizer.l"], "did you mean optimizer.lr?"),
        (["--per-task", "fast/loss/final", "--plot", "x.bmp"], "x.bmp: must end in one of .svg, .png, .pdf"),
        (["--where", "adapter.name=non"], "did you mean none?"),
        (["--sort", "fast/loss/avg_finl"], "did you mean fast/loss/avg_final?"),
    ],
)
def test_wrong_words_for_tasks(asked, message, study):
    command = [sys.executable, "-m", "ttt.cli.compare", str(study[0]), *asked]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_loads_neither_torch_nor_a_tracker():
    code = (
        "import sys, ttt.cli.compare; print([m for m in ('torch', 'matplotlib', 'wandb', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_comparison_in_a_tracker(study, monkeypatch):
    """Without a login it is kept offline: the table cell by cell, and the pictures."""
    folder, _ = study
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = compare(folder, "--metrics", METRIC, "--wandb")
    assert done.returncode == 0, done.stderr
    (kept,) = (folder / "wandb").glob("offline-run-*")
    assert f"wandb sync {kept}" in done.stderr
    (file,) = kept.rglob("table_*.table.json")
    table = json.loads(file.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert rows == cells(folder, "--metrics", METRIC)
    # One task has no forgetting, and so no frontier.
    assert {path.name.split("_")[0] for path in kept.rglob("*.png")} == {
        "curve-seen",
        "curve-forgetting",
        "curve-gain",
        "tasks-learned",
    }


def test_streams_of_two_configs_say_what_to_type(tmp_path):
    for tasks in (3, 4):
        make_run(tmp_path, tasks=tasks, journal=False, stream=str(tasks))
    done = compare(tmp_path)
    assert done.returncode == 2
    assert "task.num_tasks=" in done.stderr
    words = done.stderr.strip().rpartition("to pick one: ")[2].split()
    assert words[0] == "--where"
    assert compare(tmp_path, *words).returncode == 0
