"""Which values an annotation allows, and what a refusal says about the others."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Interval

from ttt.config.allowed import describe, refusal
from ttt.config.build import build

Rule = Literal["hebb", "delta"]
Count = Annotated[int, Ge(1)]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("hebb", Rule), (1, Count), ("auto", Count | Literal["auto"]), (3, Count | Literal["auto"]),
        (None, Count | None), (1, float), (0.5, Annotated[float, Interval(ge=0, lt=1)]), ([1, 2], list[int]),
        (["delta"], list[Rule]), (True, bool),
    ],
)  # fmt: skip
def test_what_is_allowed_is_not_refused(value, hint):
    assert refusal(value, hint) == ""


@pytest.mark.parametrize(
    ("value", "hint", "said"),
    [
        ("heb", Rule, "did you mean hebb? allowed: delta, hebb"),
        (0, Count, "at least 1"),
        (True, Count, "an integer"),
        (1.5, Count, "an integer"),
        (float("nan"), float, "finite"),
        (float("inf"), Annotated[float, Gt(0)], "finite"),
        (1.0, Annotated[float, Interval(ge=0, lt=1)], "at least 0 and below 1"),
        (0, Count | Literal["auto"], "an integer at least 1 or auto"),
        ("atuo", Count | Literal["auto"], "did you mean auto?"),
        (-1.0, Annotated[float, Gt(0)] | None, "a number above 0 or null"),
        ([1, "x"], list[int], "a list of integers"),
    ],
)
def test_a_refusal_says_what_is_allowed(value, hint, said):
    assert said in refusal(value, hint)


def test_an_annotation_in_words():
    assert describe(Rule | None) == "one of hebb, delta or null"


def test_a_class_of_version_0_1_is_found_where_it_lies_now():
    old = {"_target_": "ttt.trainer.TrainerSettings", "strategy": "single", "devices": "auto", "nodes": "auto"}
    rest = {
        "accumulate": 1,
        "accelerator": "cpu",
        "precision": "32-true",
        "threads": 1,
        "report_every": 1,
        "workers": 0,
    }
    assert build(old | rest, group="trainer", given={}, trusted=[]).precision == "32-true"
