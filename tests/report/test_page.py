"""The page of one run: safe against texts, semantic, thinned where needed, honest about gaps."""

from __future__ import annotations

import html
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fake_runs import make_run
from pages import Page, cell_classes, page_of

from ttt.compare.runs import read_run
from ttt.report.one import write_run
from ttt.report.text import UNDEFINED
from ttt.results.scores import MEANINGS

# One process makes the shared runs once.
pytestmark = pytest.mark.xdist_group("report")

HOSTILE = "<script>alert('task')</script>\"><img src=x onerror=alert(1)> $\\frac{$ \x00\x1b[31m"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    overrides = ("adapter=mlp_fast", "optimizer.lr=0.001")
    return make_run(tmp_path_factory.mktemp("run"), overrides=overrides, seed=3)


@pytest.fixture(scope="module")
def page_text(run) -> str:
    return write_run(run).read_text()


@pytest.fixture(scope="module")
def page(page_text) -> Page:
    return Page(page_text)


def test_no_part_of_the_page_uses_the_network(page, page_text):
    (policy,) = (a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    for tag, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(key) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"@import|url\((?!#|&quot;#)", page_text)


def test_tables_and_headings_are_semantic(page):
    assert page.named("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.named("caption")) == len(page.named("table"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.named("th"))
    assert len(page.named("figcaption")) == len(page.named("figure"))


def test_heat_maps_frame_the_task_just_learned(page_text):
    classes = cell_classes(page_text, "R-fast-loss")
    assert [len(row) for row in classes] == [5] * 6
    framed = {(i, j) for i, row in enumerate(classes) for j, name in enumerate(row) if name.endswith(" just")}
    assert framed == {(j + 1, j) for j in range(5)}


def test_every_heat_map_has_its_scale_and_says_what_its_mode_is(run, page_text):
    for mode, meaning in MEANINGS["fast"].items():
        if f'id="R-{mode}-loss"' in page_text:
            figure = page_text[page_text.index(f'id="R-{mode}-loss"') :].partition("</figure>")[0]
            assert meaning in figure
            assert 'class="scale"' in figure
            assert "bits per token" in figure
            assert "bits per token" in (run / "plots" / f"R-{mode}-loss.svg").read_text()


def test_slopes_have_the_sign_of_their_picture(tmp_path):
    text = write_run(make_run(tmp_path, tasks=6, noise=0.5, overrides=("adapter=none",))).read_text()
    results = read_run(next(tmp_path.rglob("results.json")).parent).results
    r = results.matrix("slow", "loss")
    learned = [r[j + 1, j] for j in range(6)]
    caption = text[text.index('<figure class="picture" id="plasticity"') :].partition("</figcaption>")[0]
    # Up in the picture is a higher loss.
    assert f"slow {np.polyfit(range(6), learned, 1)[0]:+.4f}" in caption
    assert f"slow {np.polyfit(range(6), learned - r[0], 1)[0]:+.4f}" in caption


def test_heat_maps_mark_what_is_missing(tmp_path):
    text = write_run(make_run(tmp_path, tasks=6, every=3, seed=1)).read_text()
    thinned = cell_classes(text, "R-fast-loss")
    assert thinned[1][3:] == ["none"] * 3
    assert "none" not in thinned[3]


def test_how_to_run_it_again(page_text):
    text = html.unescape(page_text)
    assert "ttt-run adapter=mlp_fast optimizer.lr=0.001 seed=3" in text
    assert "/somewhere" not in text


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
    assert not [attributes for _, attributes in page.tags if any(key.startswith("on") for key in attributes)]
    for text in ("alert('task')", "alert('sample')", "alert(2)", "alert(3)", "<b>dirty</b>"):
        assert text in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", (run / "report.html").read_text())


def test_a_long_stream_is_thinned_and_the_page_says_so(tmp_path):
    run = make_run(tmp_path, tasks=120, every=12, names=[f"a task with a long name, {j}" for j in range(120)])
    text = write_run(run).read_text()
    assert len(text) < 2_000_000
    page = Page(text)
    assert "11 of 121 rows" in page.text
    assert "100 of 120 tasks" in page.text
    classes = cell_classes(text, "R-fast-loss")
    assert len(classes) <= 30
    assert max(map(len, classes)) <= 30
    # The rows that are shown are the full ones.
    assert "none" not in {name for row in classes for name in row}


def test_undefined_metrics_say_why(tmp_path):
    run = make_run(tmp_path, tasks=40, every=20)
    text = write_run(run).read_text()
    reason = json.loads((run / "results.json").read_text())["undefined"]["fast/loss/forgetting_max_seen"]
    row = text[text.index('title="forgetting_max_seen"') :].split("</tr>")[0]
    assert row.count(f'title="{html.escape(reason)}">{UNDEFINED}</td>') == 3
    # The variant that is defined stands in for it.
    assert 'title="forgetting_at_learn"' in text


def test_without_fast_weights_nothing_is_shown_twice(tmp_path):
    page = page_of(make_run(tmp_path, overrides=("adapter=none",)))
    assert page.tables["headline-loss"][0] == ["metric", "slow"]
    assert "Mode slow" in page.text
    assert not [attributes for attributes in page.named("figure") if "fast" in attributes["id"]]


def test_a_search_that_breaks_the_rule_is_declared(page, tmp_path):
    bad = make_run(tmp_path, overrides=("sweep.objective=fast/loss/avg_final",))
    assert "breaks the rule" not in page.text
    assert "sweep.objective=fast/loss/avg_final breaks the rule" in page_of(bad).text
