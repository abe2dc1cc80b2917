"""A run that also measures what the model knew: its files, its tables, and going on after a stop."""

from __future__ import annotations

import csv
import json
import math

import pytest
from assembling import without
from commands import assert_refused, typed
from harness import TINY, only_run, run_here
from interrupted import interrupted_run
from pages import Page

from ttt.cli import compare, report
from ttt.results import catalogue
from ttt.results.events import from_record
from ttt.results.saved import as_json, from_json
from ttt.sinks.numbers import event_numbers
from ttt.storage.whole import SEAL

MINE = [{"prompt": "ab", "options": ["cd", "ef", "g"], "answer": n} for n in (0, 1, 2)]
RUN = [*without(TINY, "source=", "task.held_out"), "source=prose", "adapter=none", "task.held_out=5",
       "eval.every=2", "eval.known_sequences=2"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The outcome of a run with two sets, one of them the user's, and its folder."""
    folder = tmp_path_factory.mktemp("known")
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, MINE)))
    outcome = run_here([*RUN, "eval.known=[prose,mine.jsonl]", "report=true"], folder)
    assert outcome.code == 0, outcome.err
    return outcome, only_run(folder)


def test_rows_with_the_base_have_them_and_metrics_follow(run):
    content = json.loads((run[1] / "results.json").read_text())
    known = [row.get("known_sets") for row in content["rows"]]
    # Row 1 holds two tasks only, and no base either.
    assert [each is None for each in known] == [row["base"] is None for row in content["rows"]] == [0, 1, 0, 0]
    assert set(known[0]) == {"prose", "mine"}
    metrics = content["metrics"]
    for name, quantity, sign in (("prose", "loss", -1), ("prose", "accuracy", 1), ("mine", "log_p_right", 1)):
        before, final = (each[name]["slow"][quantity][0] for each in (known[0], known[-1]))
        metric = f"slow/{quantity}/known_{name}"
        assert metrics[f"{metric}_before"] == before
        assert metrics[f"{metric}_final"] == final
        assert metrics[f"{metric}_forgetting"] == pytest.approx(sign * (before - final))
    assert metrics["slow/drift/kl_known_prose"] > 0
    assert "slow/acc_norm/known_prose_final" not in metrics
    events = [json.loads(line) for line in (run[1] / "metrics.jsonl").read_text().splitlines()]
    evaluated = [event for event in events if event["event"] == "evaluated"]
    assert [event["known_sets"] or None for event in evaluated] == known
    shown = event_numbers(from_record(evaluated[-1]))
    assert shown["eval/slow/loss/known_prose"] == known[-1]["prose"]["slow"]["loss"][0]
    assert as_json(from_json(content)) | {SEAL: content[SEAL]} == content


def compared(folder, *options):
    """Return the rows of `ttt-compare FOLDER`, as numbers that are not rounded."""
    outcome = typed(compare.main, "ttt-compare", folder, *options, "--format", "csv")
    assert outcome.code == 0, outcome.err
    return list(csv.DictReader(outcome.out.splitlines()))


def test_tables_and_pages_show_them(run, tmp_path):
    outcome, folder = run
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    final, forgotten = (metrics[f"slow/loss/known_prose_{moment}"] for moment in ("final", "forgetting"))
    assert f"{final:.3f} ({forgotten:+.3f})" in outcome.out
    page = Page((folder / "report.html").read_text())
    before = metrics["slow/loss/known_prose_before"]
    (row,) = (row for row in page.tables["known"] if row[0] == "prose" and row[1].startswith("Loss ("))
    assert row[2:] == ["slow", f"{before:.3f}", f"{final:.3f}", f"{forgotten + 0.0:.3f}"]
    means = {row["column"]: float(row["mean"]) for row in compared(folder)}
    assert means["fast/loss/known_prose_forgetting"] == pytest.approx(forgotten)
    assert "fast/accuracy/known_mine_forgetting" in means
    drift = [float(row["mean"]) for row in compared(folder, "--curve", "slow/drift/kl_known_prose")]
    assert drift[0] == pytest.approx(0, abs=1e-9)
    assert drift[-1] == pytest.approx(metrics["slow/drift/kl_known_prose"])
    # The page of a run that is not done reads them from its journal.
    (folder / "results.json").rename(tmp_path / "results.json")
    assert typed(report.main, "ttt-report", folder, "-o", tmp_path / "page.html").code == 0
    (tmp_path / "results.json").rename(folder / "results.json")
    assert len(Page((tmp_path / "page.html").read_text()).tables["known"]) == len(page.tables["known"])


def test_other_numbers_stay_and_a_resumed_run_keeps_them(run, tmp_path, monkeypatch):
    content = json.loads((run[1] / "results.json").read_text())
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, MINE)))
    resumed = interrupted_run([*RUN, "eval.known=[prose,mine.jsonl]"], tmp_path, monkeypatch, rows=2)
    assert json.loads((resumed / "results.json").read_text()) == content
    plain = tmp_path / "plain"
    plain.mkdir()
    assert run_here(RUN, plain).code == 0
    for row in content["rows"]:
        row.pop("known_sets", None)
        row["diagnostics"] = {name: x for name, x in row["diagnostics"].items() if "known" not in name}
    assert json.loads((only_run(plain) / "results.json").read_text())["rows"] == content["rows"]


def test_other_items_are_another_run(run, tmp_path):
    items = [{**item, "answer": 0} for item in MINE]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, items)))
    assert run_here([*RUN, "eval.known=[prose,mine.jsonl]"], tmp_path).code == 0
    assert only_run(tmp_path).name != run[1].name


def test_a_broken_file_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "mine.jsonl").write_text("{}\n")
    assert_refused(run_here([*RUN, "eval.known=[mine.jsonl]"], tmp_path), "eval.known=[mine.jsonl]", "line 1")
    assert_refused(run_here([*RUN, "eval.known=[proze]"], tmp_path), "did you mean prose?")
    assert not (tmp_path / "outputs").exists()


def test_a_set_that_no_run_has_is_not_a_number(run):
    results = from_json(json.loads((run[1] / "results.json").read_text()))
    assert results.known_values("code", "slow", "loss") == []
    assert math.isnan(catalogue.metric(results, "slow/loss/known_code_final"))
    with pytest.raises(KeyError):
        catalogue.find("slow/loss/known_code_end")
