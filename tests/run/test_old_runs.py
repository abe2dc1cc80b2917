"""A run folder that version 0.1 wrote, opened by the commands of today."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from commands import typed
from pages import Page

from ttt.cli import compare, probe, report
from ttt.results.saved import as_json, from_json

FOLDER = Path(__file__).parents[1] / "fixtures" / "run-0.1"
RESULTS = json.loads((FOLDER / "results.json").read_text())


@pytest.fixture
def old(tmp_path):
    """A copy of the folder: commands may write beside the results."""
    return Path(shutil.copytree(FOLDER, tmp_path / "seed0-0ld"))


def table(*options: str, run: Path) -> list[dict[str, str]]:
    """Return the rows of `ttt-compare RUN`, as numbers that are not rounded."""
    outcome = typed(compare.main, "ttt-compare", run, *options, "--format", "csv")
    assert outcome.code == 0, outcome.err
    return list(csv.DictReader(outcome.out.splitlines()))


def test_a_comparison_shows_its_metrics(old):
    rows = table(run=old)
    assert {row["column"] for row in rows} >= {"fast/loss/avg_final", "carried/loss/forgetting_max_seen"}
    # Metrics that came later are computed from its rows, and it has no value to compare with.
    recorded = [row for row in rows if row["column"] in RESULTS["metrics"]]
    assert len(recorded) >= 6
    for row in recorded:
        assert float(row["mean"]) == pytest.approx(RESULTS["metrics"][row["column"]])


def test_a_page_shows_its_matrix(old, tmp_path):
    outcome = typed(report.main, "ttt-report", old, "-o", tmp_path / "page.html")
    assert outcome.code == 0, outcome.err
    page = Page((tmp_path / "page.html").read_text())
    assert all(name in page.text for name in RESULTS["tasks"])
    final = next(row for row in page.tables["headline-loss"] if row[0] == "after the whole stream")
    assert final[1:] == [f"{RESULTS['metrics'][f'{mode}/loss/avg_final']:.3f}" for mode in ("slow", "fast", "carried")]
    shown = {cell for rows in page.tables.values() for row in rows for cell in row}
    for row in RESULTS["rows"]:
        assert {f"{x:.2f}" for x in row["scores"]["fast"]["loss"]} <= shown


def test_a_probe_reads_the_same_bits_and_the_same_state(old, tmp_path):
    outcome = typed(probe.main, "ttt-probe", "state", old, "--out", tmp_path / "probe")
    assert outcome.code == 0, outcome.err
    numbers = json.loads((tmp_path / "probe" / "probe.json").read_text())
    last = RESULTS["rows"][-1]
    for mode in ("slow", "fast", "carried"):
        bits = sum(part[mode] for part in numbers["parts"]) / len(numbers["parts"])
        assert bits == pytest.approx(last["scores"][mode]["loss"][-1], rel=1e-5)
    carried = next(row for row in numbers["tensors"] if row["state"] == "carried")
    assert carried["over_w0"] == pytest.approx(last["diagnostics"]["layers.0.mlp.state_over_w0"], rel=1e-4)


def test_results_come_back_as_they_were_stored():
    content = as_json(from_json(RESULTS))
    for part in ("rows", "tasks", "fingerprints", "learned_at", "anytime"):
        assert content[part] == RESULTS[part]
    assert content["metrics"].keys() >= RESULTS["metrics"].keys()
    recorded = {name: content["metrics"][name] for name in RESULTS["metrics"]}
    assert recorded == pytest.approx(RESULTS["metrics"], nan_ok=True)
