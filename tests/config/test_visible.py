"""What is printed or written for a spreadsheet is text: it gives no orders."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from rich.table import Table
from rich.text import Text
from sample_events import trained

from ttt.cli.console import Console, say_error
from ttt.cli.tables.formats import comma_separated
from ttt.config.visible import cell, visible
from ttt.sinks.base import RunInfo
from ttt.sinks.csv import CsvSink

TITLE, CLEAR, BIDI, C1, BELL = "\x1b]0;mine\x07", "\x1b[2J", "\u202eexe.txt", "\x9b2J", "\x07\x08\r"


@pytest.mark.parametrize("text", [TITLE, CLEAR, BIDI, C1, BELL, "a\x00b\x7f", "\u2066x", "\u2028", "\ud800"])
def test_characters_that_act_become_symbols(text):
    shown = visible(f"x{text}y")
    assert len(shown) == len(text) + 2
    assert all(c.isprintable() for c in shown)
    assert visible(shown) == shown


def test_text_of_any_language_stays():
    text = "Straße עברית العربية 日本語 👩‍👩‍👧\n\tx"
    assert visible(text) == text


@pytest.mark.parametrize("colour", [True, False])
def test_a_console_gives_its_own_orders_alone(colour):
    file = io.StringIO()
    console = Console(file=file, force_terminal=colour, color_system="standard" if colour else None, width=60)
    table = Table(title=CLEAR)
    table.add_row(Text(TITLE), f"[bold]{BIDI}[/bold]")
    for part in (table, CLEAR, Text(C1, style="red")):
        console.print(part)
    shown = file.getvalue()
    for order in (TITLE, CLEAR, BIDI, C1):
        assert order not in shown
    assert ("\x1b[1m" in shown) == colour


def test_an_error_gives_no_orders(capsys):
    say_error(f"ttt-run: {CLEAR}")
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1"])
def test_a_formula_is_text_in_a_csv(text):
    assert cell(text) == f"'{text}"
    (row,) = csv.DictReader(io.StringIO(comma_separated([{"name": text, "value": -1.5}])))
    assert row == {"name": f"'{text}", "value": "-1.5"}


@pytest.mark.parametrize("value", [-1.5, 3, "-1.5", "+3", "-1e-3", "-inf", "plain", "", None, True])
def test_numbers_and_plain_text_stay(value):
    assert cell(value) == value


def test_the_names_of_tasks_are_text_in_csv_files(tmp_path):
    sink = CsvSink(name="csv")
    sink.start(RunInfo("1", "t", "g", "n", (), {}, tmp_path), past=list)
    sink(replace(trained(1), task_name="=HYPERLINK()"))
    with (tmp_path / "csv" / "train.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["task_name"] == "'=HYPERLINK()"
