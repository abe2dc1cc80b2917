"""The page that compares runs: its numbers, pictures and links, and the runs that it leaves out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fake_runs import make_run
from pages import Page, report

from ttt.compare.groups import group_runs
from ttt.compare.runs import find_runs, read_run
from ttt.report.one import write_run
from ttt.report.text import number

# One process makes the study once.
pytestmark = pytest.mark.xdist_group("comparison")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Two adapters, two learning rates and three seeds, a run that failed, and a page."""
    folder = tmp_path_factory.mktemp("study")
    for adapter, gain in (("none", 0.0), ("mlp_fast", 0.5)):
        for rate, learned in ((0.001, 3.0), (0.01, 2.5)):
            for seed in range(3):
                overrides = (f"adapter={adapter}", f"optimizer.lr={rate}")
                make_run(folder, seed=seed, overrides=overrides, learned=learned, gain=gain, tasks=4)
    make_run(folder, seed=9, overrides=("adapter=none",), rows=2, status="failed", reason="RuntimeError: <boom>")
    write_run(find_runs([str(folder)]).done[0])
    done = report(folder)
    assert (done.code, done.err) == (0, "")
    return folder


@pytest.fixture(scope="module")
def page(study) -> Page:
    return Page((study / "report.html").read_text())


def test_numbers_are_intervals_of_the_groups(study, page):
    groups = group_runs([read_run(run) for run in find_runs([str(study)]).done])
    assert "12 runs in 4 groups" in page.text
    assert page.tables["differ"][1:] == [["adapter.name", "mlp_fast, none"], ["optimizer.lr", "0.001, 0.01"]]
    head, *rows = page.tables["groups"]
    column = head.index("loss, fast: after the whole stream")
    assert head[:3] == ["adapter", "learning rate", "seeds"]
    for group, row in zip(groups, rows, strict=True):
        interval = group.interval("fast/loss/avg_final")
        assert row[:3] == [str(group.label["adapter.name"]), str(group.label["optimizer.lr"]), "3"]
        assert row[column] == f"{number(interval.mean)} ± {number(interval.half)}"
    # The difference to the plain method is the gain of the invented numbers.
    (first, *_) = page.tables["differences"][1:]
    assert float(first[column].split()[0]) == pytest.approx(-0.5, abs=0.03)
    assert first[column].endswith("*, p\u00a00.25")
    assert "2/2^3 = 0.25" in page.text


def test_pictures_are_in_the_page(study, page):
    assert {"frontier", "curve-forgetting", "tasks-learned"} <= {a["id"] for a in page.named("figure")}
    assert not (study / "plots").exists()


def test_what_the_machine_took_has_no_star(tmp_path):
    for adapter, speed in (("none", 16000.0), ("mlp_fast", 9000.0)):
        for seed in range(3):
            status = make_run(tmp_path, seed=seed, overrides=(f"adapter={adapter}",)) / "status.json"
            content = json.loads(status.read_text())
            status.write_text(json.dumps(content | {"training_tokens_per_second": speed + seed * (adapter == "none")}))
    assert report(tmp_path).code == 0
    page = Page((tmp_path / "report.html").read_text())
    head, row = page.tables["differences"]
    speed = row[head.index("training tokens per second")]
    assert speed.startswith("-7,001 ± ")
    assert "*" not in speed
    assert "*" in row[head.index("loss, fast: after the whole stream")]
    assert "<strong>9,000" not in (tmp_path / "report.html").read_text()


def test_every_run_is_linked_by_a_relative_path_to_its_page_or_its_numbers(study, page):
    links = [a["href"] for a in page.named("a") if not a["href"].startswith("#")]
    first, *others = find_runs([str(study)]).done
    files = {(study / link).resolve() for link in links}
    assert files == {(first / "report.html").resolve(), *((run / "results.json").resolve() for run in others)}
    assert not any(link.startswith("/") for link in links)


def test_the_page_says_where_things_are_what_modes_mean_and_how_it_was_made(study, page):
    anchors = {a["href"][1:] for a in page.named("a") if a["href"].startswith("#")}
    ids = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    assert {"what", "numbers", "pictures", "all", "again"} <= anchors <= ids
    assert "fast weights start empty, written while reading" in page.text
    assert f"ttt-report {study}" in page.text


def test_runs_that_are_left_out_say_why(study, page):
    ((path, *words),) = page.tables["left-out"][1:]
    assert (study / path / "status.json").is_file()
    assert words == ["failed", "RuntimeError: <boom>"]


def test_the_best_of_a_column_is_bold(study):
    text = (study / "report.html").read_text()
    table = text[text.index('id="groups"') :].split("</table>")[0]
    (best,) = (row for row in table.split("<tr>") if "mlp_fast" in row and ">0.01<" in row)
    learned = re.findall(r"<td.*?</td>", best)[2]
    assert "<strong>" in learned


def test_one_seed_claims_no_interval(tmp_path):
    for rate in (0.1, 0.2):
        make_run(tmp_path, overrides=(f"optimizer.lr={rate}",))
    assert report(tmp_path).code == 0
    page = Page((tmp_path / "report.html").read_text())
    assert "A group of one seed has no interval" in page.text
    assert not [cell for row in page.tables["groups"][1:] for cell in row if "±" in cell]
