"""ttt-compare against numpy, on run folders written by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from scipy.stats import t

from ttt.compare import find_runs, group_runs
from ttt.evaluate import QUANTITIES
from ttt.results import Results

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
    (folder / "results.json").write_text(json.dumps(results.as_json()))


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
    groups = group_runs(find_runs([folder]))
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


def test_as_typed(study):
    folder, values = study
    done = compare(folder, "--metrics", METRIC, "--markdown")
    assert done.returncode == 0
    lines = done.stdout.strip().splitlines()
    assert lines[0] == f"| adapter.name | optimizer.lr | n | {METRIC} |"
    assert len(lines) == 6
    assert any(f"{values['mlp_fast', 0.2].mean():.3f} ±" in line for line in lines if "mlp_fast | 0.2" in line)


def test_paired_differences_to_a_baseline(study):
    folder, values = study
    done = compare(folder, "--metrics", METRIC, "--markdown", "--baseline", "adapter.name=none")
    assert done.returncode == 0
    for lr in (0.1, 0.2):
        d = values["mlp_fast", lr] - values["none", lr]
        half = t.ppf(0.975, 4) * d.std(ddof=1) / np.sqrt(5)
        star = "*" if abs(d.mean()) > half else ""
        assert f"| mlp_fast | {lr} | 5 | {d.mean():+.3f} ±{half:.3f}{star} |" in done.stdout
        assert f"| none | {lr} | 5 | {values['none', lr].mean():.3f} ±" in done.stdout
    for typed, message in (
        ("adaptr.name=none", "did you mean adapter.name?"),
        ("adapter.name=non", "did you mean none?"),
    ):
        done = compare(folder, "--baseline", typed)
        assert done.returncode == 2
        assert message in done.stderr


def test_streams_that_differ_are_not_compared(study):
    folder, _ = study
    write_run(folder, seed=0, lr=0.3, value=1.0, fingerprint="b")
    done = compare(folder)
    assert done.returncode == 2
    assert "saw different streams" in done.stderr


def test_wrong_words(study, tmp_path):
    folder, _ = study
    for args, message in (
        ([folder / "nowhere"], "no such file or folder"),
        ([folder, "--metrics", "fast/loss/avg_finl"], "did you mean fast/loss/avg_final?"),
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
    assert [len(group.runs) for group in group_runs(find_runs([tmp_path]))] == [3]
    # One shared base and one of a run's own are two methods.
    file.write_text(file.read_text().replace("seed: 2", "seed: 0", 1))
    assert [len(group.runs) for group in group_runs(find_runs([tmp_path]))] == [2, 1]


def test_tasks_one_by_one(study):
    folder, values = study
    command = [sys.executable, "-m", "ttt.cli.compare", str(folder), "--per-task", "fast/loss/final", "--markdown"]
    plot = folder / "tasks.svg"
    done = subprocess.run([*command, "--plot", str(plot)], capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("| one task"))
    for x in values.values():
        assert f"{x.mean():.3f} ±{t.ppf(0.975, 4) * x.std(ddof=1) / np.sqrt(5):.3f}" in line
    assert "<svg" in plot.read_text()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--per-task", "fast/loss"], "must be MODE/QUANTITY/MOMENT"),
        (["--per-task", "fsat/loss/final"], "did you mean fast?"),
        (["--plot", "x.svg"], "goes with --per-task"),
    ],
)
def test_wrong_words_for_tasks(asked, message, study):
    command = [sys.executable, "-m", "ttt.cli.compare", str(study[0]), *asked]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
