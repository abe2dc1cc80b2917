"""A refusal is one line, however much there is to choose from."""

from __future__ import annotations

import pytest

from ttt.config.messages import LONGEST, few, suggest
from ttt.tasks.machinery.hints import some
from ttt.tasks.machinery.rows import check_columns

METRICS = [f"{mode}/loss/metric_{i}" for mode in ("slow", "fast") for i in range(200)] + ["cost/run/seconds"]
# What the words around a list take.
AROUND = 150


def test_few_names_are_all_listed():
    assert suggest("mlp-fats", ["none", "mlp_fast"]) == "did you mean mlp_fast? allowed: mlp_fast, none"


def test_of_many_names_those_are_listed_that_are_near():
    line = suggest("seconds", METRICS, listed="--metrics '*'")
    assert len(line) < LONGEST + AROUND
    assert "did you mean cost/run/seconds?" in line
    assert "401" in line
    assert "--metrics '*'" in line
    assert "fast/loss" not in line


def test_where_nothing_is_near_the_groups_are_listed():
    line = suggest("qqqq", METRICS)
    assert "did you mean" not in line
    assert all(f"{mode}/..." in line for mode in ("cost", "fast", "slow"))


@pytest.mark.parametrize("word", ["", "x" * 100_000, "seed"])
@pytest.mark.parametrize("count", [1, 30, 31, 20_000])
def test_a_list_stays_within_a_line(word, count):
    assert len(suggest(word, (f"outputs/run_{i}/seed" for i in range(count)))) < LONGEST + AROUND


def test_few_says_how_many_more_there_are():
    runs = [f"outputs/seed{i}" for i in range(1000)]
    line = few(runs)
    shown = line.partition(" and ")[0].split(", ")
    assert shown == runs[: len(shown)]
    assert line.endswith(f" and {1000 - len(shown)} more")
    assert few(["a", "b"]) == "a, b"
    assert few([]) == ""


def test_columns_of_a_wide_table_are_counted():
    columns = [f"pixel {i}" for i in range(784)]
    with pytest.raises(ValueError, match=r"source\.text=pixel_1: ") as refused:
        check_columns(columns, {"text": "pixel_1"}, where="digits.csv")
    assert "did you mean pixel 1?" in str(refused.value)
    assert "772 more" in str(refused.value)
    assert len(str(refused.value)) < LONGEST + AROUND
    assert some(["a", "b"]) == "a, b"
