"""Which runs form a group, which are left out, and which do not compare."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from comparisons import cells, compare, refusal, write_run
from scipy.stats import t

from ttt.compare.groups import group_runs
from ttt.compare.runs import find_runs, read_run

METRIC = "fast/loss/avg_final"


def groups_in(folder):
    return group_runs([read_run(run) for run in find_runs([str(folder)]).done])


def test_groups_are_all_but_the_seed_and_intervals_are_right(study):
    folder, values = study
    groups = groups_in(folder)
    assert len(groups) == 4
    for group in groups:
        x = values[group.label["adapter.name"], group.label["optimizer.lr"]]
        interval = group.interval(METRIC)
        assert interval.n == 5
        assert interval.mean == pytest.approx(x.mean())
        low, high = t.interval(0.95, 4, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(5))
        assert interval.half == pytest.approx((high - low) / 2)
        assert np.isnan(group.interval("fast/loss/bwt_gem").mean)


def test_a_base_for_every_seed_is_one_method(tmp_path):
    for seed in range(3):
        last = write_run(tmp_path, seed=seed, lr=0.1, value=float(seed), base="pretrain")
    assert [len(group.runs) for group in groups_in(tmp_path)] == [3]
    # A base that is shared and a base of the run's own are two methods.
    file = last / "config.yaml"
    file.write_text(file.read_text().replace("seed: 2", "seed: 0", 1))
    assert [len(group.runs) for group in groups_in(tmp_path)] == [2, 1]


def test_the_seed_of_random_weights_sets_runs_apart(tmp_path):
    write_run(tmp_path / "own", seed=0, lr=0.1, value=1.0)
    shared = write_run(tmp_path / "shared", seed=0, lr=0.1, value=2.0) / "config.yaml"
    shared.write_text(shared.read_text().replace("seed: 0", "seed: 1", 1))
    write_run(tmp_path / "shared", seed=1, lr=0.1, value=3.0)
    groups = groups_in(tmp_path)
    assert [(group.label["base.seed"], len(group.runs)) for group in groups] == [(0, 1), (1, 2)]


def test_where_and_sort(study):
    folder, values = study
    sorted_cells = cells(folder, "--metrics", METRIC, "--where", "optimizer.lr=1e-1", "seed=0,1,2", "--sort", METRIC)
    means = {adapter: values[adapter, 0.1][:3].mean() for adapter in ("none", "mlp_fast")}
    assert [cell["mean"] for cell in sorted_cells] == pytest.approx(sorted(means.values()))
    assert [cell["best"] for cell in sorted_cells] == [True, False]
    assert {cell["n"] for cell in sorted_cells} == {3}
    # A pattern of folders selects runs as a condition does.
    assert len(cells(f"{folder}/none-*/seed*", "--metrics", METRIC)) == 2


def test_a_seed_twice_and_a_file_cut_short(own_study):
    folder, _ = own_study
    twin = folder / "twin"
    shutil.copytree(folder / "none-0.1" / "seed0", twin)
    assert "seed 0 of one method" in refusal(folder)
    text = (twin / "results.json").read_text()
    (twin / "results.json").write_text(text[: len(text) // 2])
    assert f"{twin}/results.json" in refusal(folder)


def test_unfinished_runs_are_left_out_and_named(own_study):
    folder, _ = own_study
    for name, status in (("one", "running"), ("two", "failed")):
        (folder / name).mkdir()
        (folder / name / "status.json").write_text(json.dumps({"status": status}))
    shown = compare(folder, "--metrics", METRIC)
    assert shown.code == 0
    assert f"2 unfinished runs (1 failed, 1 running), the first in {folder}/one" in shown.err
    assert "1 unfinished runs (1 running)" in refusal(folder / "one")


def test_streams_of_other_data_are_not_compared(own_study):
    folder, _ = own_study
    write_run(folder, seed=0, lr=0.3, value=1.0, fingerprint="b")
    assert "(the data behind them differ)" in refusal(folder)
