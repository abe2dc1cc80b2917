"""Tables and pictures for a paper: names, corrected p, clear bests, sizes, and ends of axes."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from comparisons import cells, compare, refusal, write_run

from ttt.compare.correction import holm

METRIC = "fast/loss/avg_final"
BASELINE = ("--metrics", METRIC, "--baseline", "adapter.name=none")


def holm_by_definition(ps):
    """p is rejected at a level if all smaller ones are, each at level / how many are left."""
    levels = np.linspace(0, 1, 10_001)
    corrected = []
    for p in ps:
        rank = sorted(ps).index(p)
        rejected = [all(q <= level / (len(ps) - k) for k, q in enumerate(sorted(ps)[: rank + 1])) for level in levels]
        corrected.append(levels[rejected.index(True)] if any(rejected) else 1.0)
    return corrected


def test_holm_is_the_least_level_that_rejects():
    ps = [0.01, 0.04, 0.03, 0.5]
    assert holm(ps) == pytest.approx(holm_by_definition(ps), abs=1e-4)
    assert holm([0.01, float("nan"), 0.02])[::2] == pytest.approx([0.02, 0.02])


@pytest.fixture(scope="module")
def clear(tmp_path_factory):
    """Two adapters and two rates over five seeds: one adapter is better by 1 in every seed."""
    folder, rng = tmp_path_factory.mktemp("clear"), np.random.default_rng(0)
    for seed in range(5):
        hard = rng.normal()
        for adapter, gain in (("none", 0.0), ("mlp_fast", 1.0)):
            for lr in (0.1, 0.2):
                value = 5 + hard - gain + lr + 0.01 * rng.normal()
                write_run(folder, seed=seed, lr=lr, value=value, adapter=adapter)
    return folder


def test_a_table_corrects_its_p_and_says_why_it_is_not_small(clear):
    raw = [cell["p"] for cell in cells(clear, *BASELINE) if cell["difference"]]
    corrected = [cell["p"] for cell in cells(clear, *BASELINE, "--correct", "holm") if cell["difference"]]
    assert raw == [0.0625, 0.0625]
    assert corrected == [0.125, 0.125]
    shown = compare(clear, *BASELINE).out
    assert "2/2^5 = 0.0625" in shown
    assert "2 of 2 cells" in shown
    assert "--correct holm" in refusal(clear, "--correct", "holm")
    assert "did you mean holm?" in refusal(clear, *BASELINE, "--correct", "hol")


def test_only_a_clear_best_is_bold(clear, study):
    best = [cell for cell in cells(clear, "--metrics", METRIC) if cell["best"]]
    assert [(cell["adapter.name"], cell["optimizer.lr"], cell["ahead"]) for cell in best] == [("mlp_fast", "0.1", True)]
    assert compare(clear, "--metrics", METRIC, "--format", "latex").out.count("mathbf") == 1
    # Noise has a best, but not a clear one.
    assert [cell["ahead"] for cell in cells(study[0], "--metrics", METRIC) if cell["best"]] == [False]


def test_a_paper_reads_names(clear):
    names = ("--label", "adapter=mlp_fast=In-Place TTT", "optimizer.lr=Rate")
    latex = compare(clear, *BASELINE, *names, "--format", "latex", "--caption", "50 % less", "--ref", "tab:x").out
    for part in ("In-Place TTT & 0.1", "adapter & Rate & seeds", r"\caption{50 \% less}", r"\label{tab:x}"):
        assert part in latex
    assert "optimizer.lr" not in latex
    assert METRIC not in latex
    assert "In-Place TTT" in compare(clear, *names).out
    # Programs read what is in the config.
    assert {cell["adapter.name"] for cell in cells(clear, *names)} == {"none", "mlp_fast"}


def test_a_paper_says_how_to_read_it_below_any_caption(clear):
    for caption in ((), ("--caption", "Mine")):
        latex = compare(clear, *BASELINE, "--format", "latex", *caption).out
        table, below = latex.split(r"\end{tabular}")
        assert "interval" not in table
        for words in (r"$\pm$ half of the 95 \% t-interval", "*: ", "paired", "Bold: ", "$2/2^{5}$ = 0.0625"):
            assert words in below
        assert not re.search(r"\. P\b|\bsd\b", latex)
        # A p that all differences share is said once.
        assert "p is 0.0625" in below
        assert "($p" not in table
        assert "adapter.name" not in latex
    title = re.search(r"\\caption\{(.*)\}", compare(clear, *BASELINE, "--format", "latex").out)
    assert title[1] == "Domain-incremental; 4 groups that differ in adapter, learning rate."


def test_p_stands_in_its_cell_where_differences_have_several(study):
    latex = compare(study[0], *BASELINE, "--format", "latex").out
    ps = [cell["p"] for cell in cells(study[0], *BASELINE) if cell["difference"]]
    assert len(set(ps)) == 2
    assert all(f"($p = {p:.3f}$)" in latex for p in ps)


def test_a_picture_has_names_and_numbers_beside_it(clear, tmp_path):
    plot = tmp_path / "frontier.svg"
    names = ("--label", "adapter=mlp_fast=In-Place TTT")
    axes = ("--frontier", "--axes", METRIC, "slow/loss/avg_before")
    looks = ("--size", "3.3x2.4", "--font", "8", "--title", "Rates", "--log", "x", "--limits", "y=1:9")
    assert compare(clear, *axes, *names, "--plot", plot, *looks).code == 0
    text = plot.read_text()
    assert all(word in text for word in ("In-Place TTT", "no adapter", "Rates", "after the whole stream"))
    assert METRIC not in text
    assert 'width="237.6pt" height="172.8pt"' in text
    rows = list(csv.DictReader(plot.with_suffix(".csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 2
    mean = next(cell["mean"] for cell in cells(clear, "--metrics", METRIC) if cell["adapter.name"] == "none")
    assert float(next(r["mean"] for r in rows if (r["adapter.name"], r["metric"]) == ("none", METRIC))) == mean


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--label", "adaptor=mlp_fast=x"], ["--label adaptor=mlp_fast=x", "did you mean adapter.name?"]),
        (["--label", "adapter=mlpfast=x"], ["--label adapter=mlpfast=x", "did you mean mlp_fast?"]),
        (["--label", "adapter"], ["--label adapter", "KEY=VALUE=NAME"]),
        (["--size", "3x3"], ["--size", "--plot"]),
        (["--frontier", "--plot", "x.svg", "--size", "3"], ["--size 3", "3.3x2.4"]),
        (["--frontier", "--plot", "x.svg", "--font", "99"], ["--font 99"]),
        (["--frontier", "--plot", "x.svg", "--limits", "y=4:1"], ["--limits y=4:1", "y=0:4"]),
        (["--frontier", "--plot", "x.svg", "--axes", METRIC, "fast_gain/loss/avg_final", "--log", "y"], ["--log y"]),
    ],
)
def test_wrong_words(typed, words, clear):
    message = refusal(clear, *typed)
    assert all(word in message for word in words), message
