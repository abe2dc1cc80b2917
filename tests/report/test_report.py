"""ttt-report: one page from run folders, true to their numbers, safe against their texts."""

from __future__ import annotations

import contextlib
import html
import io
import itertools
import json
import re
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from fake_runs import make_run
from harness import FAST, TINY, Outcome, only_run, run_here
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ttt.cli import report as cli_report
from ttt.compare.groups import group_runs
from ttt.compare.runs import find_runs, read_run
from ttt.report.one import write_run
from ttt.report.record import read_record
from ttt.report.text import UNDEFINED, clean, duration, number, thin
from ttt.report.unfinished import so_far
from ttt.results import catalogue
from ttt.results.saved import from_json
from ttt.run.assemble import assemble
from ttt.stream import sample_text, sample_texts

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("report")

HOSTILE = "<script>alert('task')</script>\"><img src=x onerror=alert(1)> $\\frac{$ \x00\x1b[31m"
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Reads a page and keeps what the tests ask for; refuses tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self._table = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag == "table":
            self._table = named.get("id") or f"table {len(self.tables)}"
            self.tables[self._table] = []
        if tag == "tr":
            self.tables[self._table].append([])
        if tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.text += data
        if "table" in self.open and {"td", "th"} & set(self.open):
            self.tables[self._table][-1][-1] += data

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(run: Path) -> Page:
    return Page(write_run(run).read_text())


def report(*args, cwd: Path | None = None) -> Outcome:
    """The command, typed in `cwd`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["ttt-report", *map(str, args)]),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli_report.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


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
    pictures = {attrs["id"] for attrs in page.named("figure")}
    assert {file.stem for file in (run / "plots").glob("*.svg")} == pictures
    assert {"training-loss", "forgetting", "plasticity", "R-fast-loss", "R-slow-accuracy"} <= pictures


def test_no_part_of_the_page_asks_the_network(tmp_path):
    text = write_run(make_run(tmp_path)).read_text()
    page = Page(text)
    (policy,) = (a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    for tag, attrs in page.tags:
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert (attrs.get(key) or "#").startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"@import|url\((?!#|&quot;#)", text)


def test_texts_of_data_and_config_stay_texts(tmp_path):
    run = make_run(tmp_path, names=[HOSTILE, "b", "c", "d", "e"])
    samples = [{"task": HOSTILE, "text": "</pre><script>alert('sample')</script>\ud800"}]
    (run / "samples.json").write_text(json.dumps(samples))
    config = run / "config.yaml"
    config.write_text(config.read_text() + "note: '</code></pre><script>alert(2)</script>'\n")
    environment = json.loads((run / "environment.json").read_text())
    environment |= {"command": ["x", "task.note=<script>alert(3)</script>"], "git": "<b>dirty</b>"}
    (run / "environment.json").write_text(json.dumps(environment))
    page = page_of(run)
    assert len(page.named("script")) == 1
    assert not page.named("img")
    assert not page.named("b")
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    for text in ("alert('task')", "alert('sample')", "alert(2)", "alert(3)", "<b>dirty</b>"):
        assert text in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", (run / "report.html").read_text())


def test_tables_and_headings_are_semantic(tmp_path):
    page = page_of(make_run(tmp_path))
    assert page.named("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.named("caption")) == len(page.named("table"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.named("th"))
    assert len(page.named("figcaption")) == len(page.named("figure"))


def cells(run: Path, name: str) -> list[list[str]]:
    """Classes of the cells of one heat map."""
    text = write_run(run).read_text()
    figure = text[text.index(f'id="{name}"') :]
    figure = figure[: figure.index("</figure>")]
    return [re.findall(r'<td class="([^"]*)"', row) for row in figure.split("<tr>")[2:]]


def test_heat_maps_mark_the_task_just_learned_and_what_is_missing(tmp_path):
    found = cells(make_run(tmp_path, tasks=5), "R-fast-loss")
    assert [len(row) for row in found] == [5] * 6
    framed = {(i, j) for i, row in enumerate(found) for j, name in enumerate(row) if name.endswith(" just")}
    assert framed == {(j + 1, j) for j in range(5)}
    thinned = cells(make_run(tmp_path, tasks=6, every=3, seed=1), "R-fast-loss")
    assert thinned[1][3:] == ["none"] * 3
    assert "none" not in thinned[3]


def test_a_long_stream_is_thinned_and_the_page_says_so(tmp_path):
    run = make_run(tmp_path, tasks=120, every=12, names=[f"a task with a long name, {j}" for j in range(120)])
    file = write_run(run)
    assert file.stat().st_size < 2_000_000
    page = Page(file.read_text())
    assert "11 of 121 rows" in page.text
    assert "100 of 120 tasks" in page.text
    found = cells(run, "R-fast-loss")
    assert len(found) <= 30
    assert max(map(len, found)) <= 30
    # The full rows are those that are shown.
    assert "none" not in {name for row in found for name in row}


def test_undefined_metrics_say_why(tmp_path):
    run = make_run(tmp_path, tasks=40, every=20)
    text = write_run(run).read_text()
    reason = json.loads((run / "results.json").read_text())["undefined"]["fast/loss/forgetting_max_seen"]
    row = text[text.index("forgetting (+ is harm)") :].split("</tr>")[0]
    assert row.count(f'title="{html.escape(reason)}">{UNDEFINED}</td>') == 3
    # The variant that is defined stands in for it.
    assert "forgetting, at learn" in text


def test_without_fast_weights_nothing_is_shown_twice(tmp_path):
    page = page_of(make_run(tmp_path, overrides=("adapter=none",)))
    assert page.tables["headline-loss"][0] == ["metric", "slow"]
    assert "Mode slow" in page.text
    assert not [attrs for attrs in page.named("figure") if "fast" in attrs["id"]]


@pytest.mark.parametrize(("status", "reason"), [("failed", "RuntimeError: boom"), ("requeue", "interrupted")])
def test_a_run_that_is_not_done_gets_a_page_that_says_so(status, reason, tmp_path):
    run = make_run(tmp_path, tasks=5, rows=4, status=status, reason=reason)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "trained", "task": 4, "torn')
    page = page_of(run)
    assert f"This run is not done ({status}: {reason})" in page.text
    assert "3 phases were learned by then" in page.text
    assert UNDEFINED in page.tables["tasks"][5]


def test_numbers_so_far_are_those_of_a_stream_that_ends_there(tmp_path):
    whole = make_run(tmp_path / "a", tasks=5)
    part = read_record(make_run(tmp_path / "b", tasks=5, rows=4, status="running"))
    r = read_record(whole).results.matrix("fast", "loss")
    np.testing.assert_array_equal(part.results.matrix("fast", "loss"), r[:4])
    ended = so_far(part.results)
    assert ended.tasks == ["001 language 1", "002 language 2", "003 language 3"]
    assert catalogue.metric(ended, "fast/loss/avg_final") == pytest.approx(r[3, :3].mean())
    assert catalogue.metric(ended, "fast/loss/bwt_gem") == pytest.approx(-np.mean([r[3, j] - r[j + 1, j] for j in range(2)]))


def test_a_run_before_its_first_task(tmp_path):
    run = make_run(tmp_path, rows=1, status="failed", reason="no luck")
    page = page_of(run)
    assert "No task is learned yet" in page.text
    (run / "metrics.jsonl").write_text("")
    assert "nothing by then" in page_of(run).text


def test_a_dead_process_does_not_count_as_running(tmp_path):
    run = make_run(tmp_path, rows=3, status="running")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (run / "lock").write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid}))
    assert "its process is gone" in page_of(run).text


def test_how_to_run_it_again(tmp_path):
    run = make_run(tmp_path, overrides=("adapter=mlp_fast", "optimizer.lr=0.001"), seed=3)
    text = html.unescape(write_run(run).read_text())
    assert "ttt-run adapter=mlp_fast optimizer.lr=0.001 seed=3" in text
    assert "/somewhere" not in text


def test_wrong_folders(tmp_path):
    run = make_run(tmp_path)
    (run / "results.json").write_text((run / "results.json").read_text()[:500])
    (tmp_path / "empty").mkdir()
    for typed, message in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "empty", "holds no run"),
        (run, "results.json: cut short"),
    ):
        done = report(typed)
        assert done.code == 2
        assert message in done.err
        assert done.err.count("\n") == 1
        assert not list(tmp_path.rglob("report.html"))


def test_help_needs_no_torch_and_no_matplotlib():
    heavy = "{'torch', 'matplotlib', 'jinja2'} & set(sys.modules)"
    code = f"import sys, atexit; atexit.register(lambda: print({heavy})); sys.argv = ['ttt-report', '--help']"
    command = [sys.executable, "-c", f"{code}; import ttt.cli.report as r; r.main()"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Two adapters, two rates, three seeds; one run stopped on the way."""
    folder = tmp_path_factory.mktemp("study")
    for adapter, gain in (("none", 0.0), ("mlp_fast", 0.5)):
        for rate, learned in ((0.001, 3.0), (0.01, 2.5)):
            for seed in range(3):
                overrides = (f"adapter={adapter}", f"optimizer.lr={rate}")
                make_run(folder, seed=seed, overrides=overrides, learned=learned, gain=gain, tasks=4)
    make_run(folder, seed=9, overrides=("adapter=none",), rows=2, status="failed", reason="RuntimeError: <boom>")
    return folder


def test_the_page_of_a_study(study):
    own = write_run(find_runs([str(study)]).done[0])
    done = report(study)
    assert (done.code, done.err) == (0, "")
    page = Page((study / "report.html").read_text())
    groups = group_runs([read_run(run) for run in find_runs([str(study)]).done])
    assert "12 runs in 4 groups" in page.text
    assert page.tables["differ"][1:] == [["adapter.name", "mlp_fast, none"], ["optimizer.lr", "0.001, 0.01"]]
    head, *rows = page.tables["groups"]
    column = head.index("loss, fast: after the whole stream")
    for group, row in zip(groups, rows, strict=True):
        interval = group.interval("fast/loss/avg_final")
        assert row[:3] == [str(group.label["adapter.name"]), str(group.label["optimizer.lr"]), "3"]
        assert row[column] == f"{number(interval.mean)} ± {number(interval.half)}"
    # Differences to the plain method: the law of the invented numbers.
    (first, *_) = page.tables["differences"][1:]
    assert float(first[column].split()[0]) == pytest.approx(-0.5, abs=0.03)
    assert first[column].endswith("*")
    assert {"frontier", "curve-forgetting", "tasks-learned"} <= {a["id"] for a in page.named("figure")}
    assert (study / "plots" / "frontier.svg").is_file()
    # Links are relative, to the pages that exist.
    links = [a["href"] for a in page.named("a") if not a["href"].startswith("#")]
    assert [(study / link).resolve() for link in links] == [own.resolve()]
    ((path, *said),) = page.tables["left-out"][1:]
    assert (study / path / "status.json").is_file()
    assert said == ["failed", "RuntimeError: <boom>"]


def test_the_best_of_a_column_is_bold(study):
    report(study)
    text = (study / "report.html").read_text()
    main = text[text.index('id="groups"') :].split("</table>")[0]
    (best,) = (row for row in main.split("<tr>") if "mlp_fast" in row and ">0.01<" in row)
    learned = re.findall(r"<td.*?</td>", best)[2]
    assert "<strong>" in learned


def test_where_a_comparison_goes(study, tmp_path):
    runs = find_runs([str(study)]).done
    for typed, message in (
        ([*runs[:2]], "say where their page goes: -o FILE.html"),
        ([f"{study}/*/*"], "say where their page goes: -o FILE.html"),
        ([*runs[:2], "-o", "page.pdf"], "-o page.pdf: must end in .html"),
        ([*runs[:2], "-o", tmp_path / "no" / "page.html"], "there is no folder"),
    ):
        done = report(*typed, cwd=tmp_path)
        assert done.code == 2
        assert message in done.err
        assert done.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
    seeds = [run.folder for run in group_runs([read_run(run) for run in runs])[0].runs]
    assert report(*seeds[:2], "-o", "page.html", cwd=tmp_path).code == 0
    assert "2 runs in 1 group" in (tmp_path / "page.html").read_text()


def test_runs_that_do_not_compare_are_refused(tmp_path):
    make_run(tmp_path, seed=0, stream="a")
    make_run(tmp_path, seed=0, stream="b", overrides=("optimizer.lr=0.1",))
    done = report(tmp_path)
    assert done.code == 2
    assert "different streams" in done.err


def test_one_seed_claims_no_interval(tmp_path):
    for rate in (0.1, 0.2):
        make_run(tmp_path, overrides=(f"optimizer.lr={rate}",))
    assert report(tmp_path).code == 0
    page = Page((tmp_path / "report.html").read_text())
    assert "A group of one seed has no interval" in page.text
    assert not [cell for row in page.tables["groups"][1:] for cell in row if "±" in cell]


def test_a_search_that_breaks_the_rule_is_declared(tmp_path):
    good = make_run(tmp_path / "good")
    bad = make_run(tmp_path / "bad", overrides=("sweep.objective=fast/loss/avg_final",))
    assert "breaks the rule" not in page_of(good).text
    assert "sweep.objective=fast/loss/avg_final breaks the rule" in page_of(bad).text


def test_samples_are_those_of_the_preview(tmp_path):
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[*TINY, *FAST])
    stream = assemble(OmegaConf.to_container(config, resolve=True), trusted=[]).stream
    made = sample_texts(stream)
    assert [entry["task"] for entry in made] == [task.name for task in stream.tasks[:3]]
    assert made[0]["text"] == sample_text(stream, stream.tasks[0])
    run = make_run(tmp_path)
    (run / "samples.json").write_text(json.dumps(made))
    assert made[0]["text"] in page_of(run).text


@pytest.mark.parametrize(("seconds", "text"), [(12.34, "12.3 s"), (200, "3 min 20 s"), (3720, "1 h 02 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_numbers():
    assert [number(x) for x in (1.23456, -0.0, 12345.6, 0.00012, float("nan"))] == [
        "1.235",
        "0.000",
        "12,346",
        "0.00012",
        UNDEFINED,
    ]
    assert clean("a\x00b\ud800\tc\n") == "a\u2400b?\tc\n"


@pytest.mark.parametrize("count", [0, 1, 2, 29, 30, 31, 1000])
def test_thinning_keeps_the_ends(count):
    picked = thin(count, to=30)
    assert len(picked) == min(count, 30)
    assert picked == sorted(set(picked))
    if count:
        assert (picked[0], picked[-1]) == (0, count - 1)
