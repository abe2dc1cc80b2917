"""The section of a page with what `ttt-probe context` left in the run's folder."""

from __future__ import annotations

import json
from types import SimpleNamespace

import commands
from harness import FAST, TINY, only_run, run_here

from ttt.cli import probe, report
from ttt.report.context import FILE, context_table


def table_of(folder, content):
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(content)
    return context_table(SimpleNamespace(folder=folder))


def test_questions_have_places_and_exact_answers(tmp_path):
    row = {"length": 64, "where": "depth <0>", "seen": "outside", "slow": 3.5, "fast": 3.0, "fast_gain": 0.5}
    row |= {"fast_half": None, "slow_exact": 0.0, "fast_exact": 0.25, "slow_us": 1.0, "fast_us": 2.0}
    content = {"probe": "context", "settings": {"modes": ["slow", "fast"], "block": None}, "asked": [row]}
    table = table_of(tmp_path, json.dumps(content))
    heads = ["length", "window", "where", "slow", "fast", "fast gain", "slow exact", "fast exact"]
    assert list(table.columns) == heads
    (cells,) = table.rows
    assert len(cells) == len(heads)
    assert [cell.value for cell in cells if cell.numeric] == ["64.0", "3.5", "3.0", "0.5", "0.0", "0.25"]


def test_what_is_no_probe_of_contexts_gives_no_rows(tmp_path):
    assert not context_table(SimpleNamespace(folder=tmp_path)).rows
    for content in ("", "[1", "[]", '{"probe": "state"}', '{"probe": "context"}'):
        assert not table_of(tmp_path, content).rows


def test_a_page_shows_it(tmp_path):
    assert run_here((*TINY, *FAST), tmp_path).code == 0
    run = only_run(tmp_path)
    heading = "What a longer context is worth"
    assert commands.typed(report.main, "ttt-report", run).code == 0
    assert heading not in (run / "report.html").read_text()
    words = ("context", run, "--lengths", "16,32", "--sequences", 2, "--out", run / FILE.parent)
    assert commands.typed(probe.main, "ttt-probe", *words).code == 0
    assert commands.typed(report.main, "ttt-report", run).code == 0
    page = (run / "report.html").read_text()
    assert heading in page
    assert "Loss of the last 8 tokens" in page
