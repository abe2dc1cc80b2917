"""ttt-report as typed: real runs, wrong folders, and where a page goes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import assert_refused
from fake_runs import make_run
from harness import FAST, TINY, only_run, run_here
from pages import Page, page_of, report

from ttt.cli.benches.assembled import assembly_of
from ttt.compare.groups import group_runs
from ttt.compare.runs import find_runs, read_run
from ttt.report.text import number
from ttt.results import catalogue
from ttt.results.saved import from_json
from ttt.stream import sample_text, sample_texts


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Two learning rates with two seeds each."""
    folder = tmp_path_factory.mktemp("study")
    for rate in (0.1, 0.2):
        for seed in range(2):
            make_run(folder, seed=seed, overrides=(f"optimizer.lr={rate}",), tasks=2)
    return folder


def test_the_page_of_a_real_run(tmp_path):
    assert run_here([*TINY, *FAST], tmp_path).code == 0
    run = only_run(tmp_path)
    command = [sys.executable, "-m", "ttt.cli.report", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert str(run / "report.html") in done.stdout
    page = Page((run / "report.html").read_text())
    assert len(page.named("h1")) == 1
    results = from_json(json.loads((run / "results.json").read_text()))
    rows = {row[0]: row[1:] for row in page.tables["headline-loss"]}
    for mode, cell in zip(results.modes, rows["right after learning"], strict=True):
        assert cell == number(catalogue.metric(results, f"{mode}/loss/avg_learning"))
    assert page.tables["tasks"][1][0] == results.tasks[0]
    # Each picture is a file too.
    pictures = {attributes["id"] for attributes in page.named("figure")}
    assert {file.stem for file in (run / "plots").glob("*.svg")} == pictures
    assert {"training-loss", "forgetting", "plasticity", "R-fast-loss", "R-slow-accuracy"} <= pictures


def test_samples_are_those_of_the_preview(tmp_path):
    stream = assembly_of(*TINY, *FAST).stream
    samples = sample_texts(stream)
    assert [entry["task"] for entry in samples] == [task.name for task in stream.tasks[:3]]
    assert samples[0]["text"] == sample_text(stream, stream.tasks[0])
    run = make_run(tmp_path)
    (run / "samples.json").write_text(json.dumps(samples))
    assert samples[0]["text"] in page_of(run).text


def test_wrong_folders(tmp_path):
    run = make_run(tmp_path)
    (run / "results.json").write_text((run / "results.json").read_text()[:500])
    (tmp_path / "empty").mkdir()
    for folder, part in (
        (tmp_path / "nowhere", "no such"),
        (tmp_path / "empty", "results.json"),
        (run, "results.json: "),
    ):
        assert_refused(report(folder), folder, part)
        assert not list(tmp_path.rglob("report.html"))


def test_help_needs_no_torch_and_no_matplotlib():
    heavy = "{'torch', 'matplotlib', 'jinja2'} & set(sys.modules)"
    code = f"import sys, atexit; atexit.register(lambda: print({heavy})); sys.argv = ['ttt-report', '--help']"
    command = [sys.executable, "-c", f"{code}; import ttt.cli.report as r; r.main()"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")


def test_where_a_comparison_goes(study, tmp_path):
    runs = find_runs([str(study)]).done
    for words, part in (
        (runs[:2], "-o FILE.html"),
        ([f"{study}/*/*"], "-o FILE.html"),
        ([*runs[:2], "-o", "page.pdf"], "-o page.pdf: "),
        ([*runs[:2], "-o", tmp_path / "no" / "page.html"], f"-o {tmp_path / 'no' / 'page.html'}: "),
    ):
        assert_refused(report(*words, cwd=tmp_path), part)
    assert not list(tmp_path.iterdir())
    group = [run.folder for run in group_runs([read_run(run) for run in runs])[0].runs]
    assert report(*group, "-o", "page.html", cwd=tmp_path).code == 0
    assert "2 runs in 1 group" in (tmp_path / "page.html").read_text()
    assert report(group[0], "-o", "run.html", cwd=tmp_path).code == 0
    # A page is one file: a folder of pictures beside it would belong to both.
    assert {file.name for file in tmp_path.iterdir()} == {"page.html", "run.html"}


def test_each_stream_has_a_section_and_conditions_pick_runs(tmp_path):
    for task in ("split-sequence", "permuted-sequence"):
        for adapter in ("none", "mlp_fast"):
            make_run(tmp_path, overrides=(f"task={task}", f"adapter={adapter}"), stream=task, tasks=3)
    assert report(tmp_path).code == 0
    page = Page((tmp_path / "report.html").read_text())
    assert "4 runs in 4 groups, on 2 streams" in page.text
    assert {"about", "about-2", "numbers-2"} <= {a["href"][1:] for a in page.named("a")}
    assert len(page.tables["groups"]) == len(page.tables["groups-2"]) == 3
    assert {f"curve-seen{mark}" for mark in ("", "-2")} <= {a["id"] for a in page.named("figure")}
    words = ("--where", "task.name=split-sequence", "--baseline", "adapter.name=mlp_fast", "-o", tmp_path / "one.html")
    assert report(tmp_path, *words).code == 0
    page = Page((tmp_path / "one.html").read_text())
    assert "2 runs in 2 groups" in page.text
    assert [row[0] for row in page.tables["differences"]] == ["adapter", "none"]


def test_wrong_words(tmp_path):
    for adapter in ("none", "mlp_fast"):
        run = make_run(tmp_path, overrides=(f"adapter={adapter}",), tasks=2)
    assert_refused(report(tmp_path, "--where", "adapter.name=non"), "adapter.name=non", "did you mean none?")
    assert_refused(report(tmp_path, "--baseline", "adapter.name=non"), "adapter.name=non", "did you mean none?")
    assert_refused(report(tmp_path, "--bseline", "x"), "--bseline", "did you mean --baseline?")
    assert_refused(report(run, "--baseline", "adapter.name=none"), "--baseline", "holds one")


def test_runs_that_do_not_compare_are_refused(tmp_path):
    run = make_run(tmp_path, seed=0)
    shutil.copytree(run, tmp_path / "twin")
    assert_refused(report(tmp_path), "seed 0", "twin")
