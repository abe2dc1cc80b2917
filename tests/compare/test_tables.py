"""ttt-compare against numpy: means, intervals, paired differences, in every format."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
from comparisons import cells, compare, refusal, write_run
from scipy.stats import t

METRIC = "fast/loss/avg_final"


def p_of_flips(differences):
    """The sign-flip test over all signs."""
    means = [abs(np.mean(differences * signs)) for signs in itertools.product((1, -1), repeat=len(differences))]
    return np.mean([mean >= abs(differences.mean()) - 1e-12 for mean in means])


def test_as_typed(study):
    folder, values = study
    rows = cells(folder, "--metrics", METRIC)
    assert [(cell["adapter.name"], cell["optimizer.lr"]) for cell in rows] == [
        ("mlp_fast", "0.1"),
        ("mlp_fast", "0.2"),
        ("none", "0.1"),
        ("none", "0.2"),
    ]
    for cell in rows:
        x = values[cell["adapter.name"], float(cell["optimizer.lr"])]
        assert cell["mean"] == pytest.approx(x.mean())
        assert cell["sd"] == pytest.approx(x.std(ddof=1))
        interval = t.interval(0.95, 4, loc=x.mean(), scale=x.std(ddof=1) / 5**0.5)
        assert (cell["low"], cell["high"]) == pytest.approx(interval)
        assert cell["n"] == 5
        # Zero means nothing for a mean of losses.
        assert not cell["resolved"]
        assert cell["best"] == (x.mean() == min(v.mean() for v in values.values()))
    assert not any(cell["resolved"] for cell in cells(folder, "--metrics", "fast/loss/fwt_pairs_raw"))


def test_every_format_says_the_same(study):
    folder, values = study

    def lines(form):
        shown = compare(folder, "--metrics", METRIC, "--format", form)
        assert shown.code == 0, shown.err
        return shown.out.splitlines()

    mean = f"{values['mlp_fast', 0.2].mean():.3f}"
    (row,) = (r for r in csv.DictReader(lines("csv")) if r["adapter.name"] == "mlp_fast" and r["optimizer.lr"] == "0.2")
    assert f"{float(row['mean']):.3f}" == mean
    assert any(f"{mean} ±" in line for line in lines("markdown") if "mlp_fast | 0.2 | 5" in line)
    latex = lines("latex")
    assert r"\begin{tabular}{lllr}" in latex
    assert [line for line in latex if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert any(line.startswith(r"mlp\_fast & 0.2 & 5 & $") and mean in line for line in latex)
    table = "\n".join(lines("table"))
    assert f"{mean} ±" in table
    assert "4 groups that differ in adapter.name, optimizer.lr" in table


def test_paired_differences_to_a_baseline(study):
    folder, values = study
    for cell in cells(folder, "--metrics", METRIC, "--baseline", "adapter.name=none"):
        lr = float(cell["optimizer.lr"])
        if cell["adapter.name"] == "none":
            assert not cell["difference"]
            continue
        d = values["mlp_fast", lr] - values["none", lr]
        half = t.ppf(0.975, 4) * d.std(ddof=1) / np.sqrt(5)
        assert cell["seeds"] == "5"
        assert cell["mean"] == pytest.approx(d.mean())
        assert cell["high"] - cell["mean"] == pytest.approx(half)
        assert cell["p"] == pytest.approx(p_of_flips(d))
        assert cell["resolved"] == (abs(d.mean()) > half)
    assert "did you mean adapter.name?" in refusal(folder, "--baseline", "adaptr.name=none")
    assert "did you mean none?" in refusal(folder, "--baseline", "adapter.name=non")


def test_a_difference_says_how_many_pairs_it_has(tmp_path):
    for adapter, seeds in (("none", 3), ("mlp_fast", 5)):
        for seed in range(seeds):
            write_run(tmp_path, seed=seed, lr=0.1, value=float(seed), adapter=adapter)
    rows = {cell["adapter.name"]: cell for cell in cells(tmp_path, "--baseline", "adapter.name=none")}
    assert (rows["mlp_fast"]["seeds"], rows["mlp_fast"]["n"]) == ("3 of 5", 3)
    assert (rows["none"]["seeds"], rows["none"]["n"]) == ("3", 3)
    markdown = compare(tmp_path, "--baseline", "adapter.name=none", "--format", "markdown").out
    assert "mlp_fast | 3 of 5 |" in markdown
    # Without a baseline all seeds of the group count.
    assert {cell["seeds"] for cell in cells(tmp_path)} == {"3", "5"}


def test_many_runs_against_numpy(tmp_path):
    rates, rng = 12, np.random.default_rng(1)
    values = rng.normal(size=(2, rates, 5)) + np.linspace(0, 1, rates)[:, None]
    for (a, adapter), i, seed in itertools.product(enumerate(("none", "mlp_fast")), range(rates), range(5)):
        write_run(tmp_path, seed=seed, lr=i + 1, value=float(values[a, i, seed]), adapter=adapter)
    rows = cells(tmp_path, "--metrics", METRIC, "--baseline", "adapter.name=none")
    assert len(rows) == 2 * rates
    for cell in rows:
        i = int(cell["optimizer.lr"]) - 1
        x = values[1, i] - values[0, i] if cell["difference"] else values[0, i]
        assert cell["mean"] == pytest.approx(x.mean())
        assert cell["sd"] == pytest.approx(x.std(ddof=1))
        assert cell["high"] - cell["low"] == pytest.approx(2 * t.ppf(0.975, 4) * x.std(ddof=1) / 5**0.5)
        if cell["difference"]:
            assert cell["p"] == pytest.approx(p_of_flips(x))


def test_one_seed_claims_no_interval(study):
    for cell in cells(study[0], "--where", "seed=0", "--metrics", METRIC, "--baseline", "adapter.name=none"):
        assert cell["n"] == 1
        assert cell["sd"] is cell["low"] is cell["high"] is cell["p"] is None
        assert not cell["resolved"]
