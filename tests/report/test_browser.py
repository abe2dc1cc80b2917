"""The report in a real browser: it opens from disk without network, sorts, saves, fits a phone."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fake_runs import make_run

from ttt.compare.runs import find_runs, read_run
from ttt.report.many import write_comparison
from ttt.report.one import write_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# Of A4 within a browser's margins, in pixels.
PORTRAIT, LANDSCAPE = 718, 1047

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason=f"no browser is installed: {', '.join(BROWSERS)}"),
    # One process starts the browser.
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """One run, a long one, and a comparison."""
    folder = tmp_path_factory.mktemp("runs")
    hostile = "<script>document.title = 'run over'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"
    run = make_run(folder / "one", names=[hostile, "b", "c", "d", "e" * 200], tasks=5)
    long = make_run(folder / "long", tasks=60, every=6)
    for rate in (0.1, 0.2):
        for seed in range(2):
            make_run(folder / "study", seed=seed, overrides=(f"optimizer.lr={rate}",))
    study = write_comparison(find_runs([str(folder / "study")]), to=folder / "study" / "report.html")
    return {"one": write_run(run), "long": write_run(long), "study": study}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """An open page, with its complaints and the addresses that it requested."""

    def __init__(self, browser, file, *, viewport=DESKTOP, scheme="light"):
        self.page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
        self.complaints, self.requested = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(file.as_uri())

    def column(self, table, index):
        return self.page.locator(f"#{table} tbody tr > :nth-child({index + 1})").all_inner_texts()


@pytest.mark.parametrize("name", ["one", "long", "study"])
def test_opens_from_disk_without_network(name, pages, browser):
    tab = Tab(browser, pages[name])
    assert tab.page.title() != "run over"
    assert tab.complaints == []
    # Icons inside the page are no requests to the network.
    assert [url for url in tab.requested if not url.startswith("data:")] == [pages[name].as_uri()]


def test_the_policy_forbids_requests(pages, browser):
    tab = Tab(browser, pages["one"])
    answer = tab.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', error => error.message)")
    assert answer != "sent"
    assert any("Content Security Policy" in text for text in tab.complaints)


def test_tables_sort_by_click_and_by_key(pages, browser):
    tab = Tab(browser, pages["one"])
    head = tab.page.locator("#tasks thead th").nth(4)
    before = tab.column("tasks", 4)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = tab.column("tasks", 4)
    assert up == sorted(before, key=float)
    assert up != before
    # Whole rows move.
    assert tab.column("tasks", 1) == [str(before.index(value) + 1) for value in up]
    head.locator("button").focus()
    tab.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert tab.column("tasks", 4) == up[::-1]
    # What was not measured stays last, either way.
    forgotten = tab.page.locator("#tasks thead th").nth(5).locator("button")
    for _ in range(2):
        forgotten.click()
        assert tab.column("tasks", 5)[-1] == "\u2013"
    assert tab.page.locator("#tasks [aria-sort]").count() == 1


def test_heat_maps_say_what_a_cell_is(pages, browser):
    tab = Tab(browser, pages["long"])
    figure = tab.page.locator("#R-fast-loss")
    cell = figure.locator("tbody tr").nth(1).locator("td").nth(2)
    cell.hover()
    readout = figure.locator("output").inner_text()
    assert "after phase" in readout
    assert "on task" in readout
    assert cell.text_content() in readout


def saved(tab, button):
    """The name and the text of the file that a button saves."""
    with tab.page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, Path(download.value.path()).read_text()


def test_tables_and_pictures_can_be_taken_along(pages, browser):
    tab = Tab(browser, pages["study"])
    name, text = saved(tab, tab.page.get_by_label("save the table runs", exact=True))
    head, *rows = csv.reader(text.splitlines())
    assert (name, head[:2], len(rows)) == ("runs.csv", ["run", "learning rate"], 4)
    # All digits, not those that are shown.
    values = {read_run(run).metric("fast/loss/avg_learning") for run in find_runs([str(pages["study"].parent)]).done}
    assert {float(row[3]) for row in rows} == values
    name, text = saved(tab, tab.page.get_by_label("save the picture frontier"))
    assert name == "frontier.svg"
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert tab.complaints == []


def test_heat_maps_can_be_taken_along(pages, browser):
    tab = Tab(browser, pages["long"])
    name, text = saved(tab, tab.page.get_by_label("save the picture R-fast-loss"))
    assert name == "R-fast-loss.svg"
    # The same as beside the page.
    drawn = ElementTree.parse(pages["long"].parent / "plots" / name)
    assert ElementTree.tostring(ElementTree.fromstring(text)) == ElementTree.tostring(drawn.getroot())
    name, text = saved(tab, tab.page.get_by_label("save the table R-fast-loss"))
    head, *rows = csv.reader(text.splitlines())
    r = read_run(pages["long"].parent).results.matrix("fast", "loss")
    assert (name, len(rows)) == ("R-fast-loss.csv", 11)
    assert float(rows[1][1]) == pytest.approx(r[6, int(head[1]) - 1], rel=1e-5)
    assert tab.complaints == []


def test_paper_shows_whole_tables_and_folded_maps(pages, browser):
    for name, width in {"one": PORTRAIT, "long": PORTRAIT, "study": LANDSCAPE}.items():
        tab = Tab(browser, pages[name], viewport={"width": width, "height": 900}, scheme="dark")
        tab.page.emulate_media(media="print")
        tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        for table in tab.page.locator("table:visible").all():
            box = table.bounding_box()
            assert box["x"] + box["width"] <= width, (name, table.get_attribute("id"))
        if name != "study":
            accuracy = tab.page.locator("#R-slow-accuracy")
            assert accuracy.is_visible()
            tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
            assert not accuracy.is_visible()


def test_on_a_phone_every_value_of_a_row_is_on_the_screen(pages, browser):
    tab = Tab(browser, pages["study"], viewport=PHONE)
    cells = tab.page.locator("#groups tbody tr:first-child td")
    for cell in cells.all():
        box = cell.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= PHONE["width"]
        assert cell.get_attribute("data-name")


@pytest.mark.parametrize("name", ["one", "long", "study"])
def test_fits_a_phone(name, pages, browser):
    tab = Tab(browser, pages[name], viewport=PHONE)
    tab.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_light_dark_and_print(pages, browser):
    def colours(tab):
        style = "getComputedStyle(document.body)"
        return tab.page.evaluate(f"[{style}.backgroundColor, {style}.color]")

    light, dark = (Tab(browser, pages["one"], scheme=scheme) for scheme in ("light", "dark"))
    assert colours(light) == ["rgb(255, 255, 255)", "rgb(23, 24, 25)"]
    assert colours(dark) == ["rgb(21, 23, 26)", "rgb(232, 234, 237)"]
    # Text in pictures takes the colour of the page's text.
    letter = dark.page.locator("#forgetting svg text").first
    assert letter.evaluate("e => getComputedStyle(e).fill") == "rgb(232, 234, 237)"
    dark.page.emulate_media(media="print")
    assert colours(dark) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
