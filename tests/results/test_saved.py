"""results.json: what it holds comes back, and it holds no number that JSON cannot say."""

from __future__ import annotations

import json
import math

import pytest

from ttt.results import catalogue
from ttt.results.rows import plain
from ttt.results.saved import as_json, from_json
from ttt.results.scores import MEANINGS, MODES, QUANTITIES, REWARDED, quantity_of, sign


def test_everything_comes_back(learner):
    text = json.dumps(as_json(learner), allow_nan=False)
    again = from_json(json.loads(text))
    assert json.dumps(as_json(again)) == text
    assert catalogue.metrics(again) == pytest.approx(catalogue.metrics(learner), nan_ok=True)


@pytest.mark.parametrize("key", ["rows", "anytime", "references"])
def test_a_file_of_another_version_is_named(key, learner):
    content = {name: value for name, value in as_json(learner).items() if name != key}
    with pytest.raises(ValueError, match=key):
        from_json(content)


def test_what_is_not_finite_is_null():
    assert plain({"a": (1.0, math.nan), 2: [math.inf, None, "x"]}) == {"a": [1.0, None], "2": [None, None, "x"]}


def test_modes_and_quantities_have_words():
    assert {mode for meanings in MEANINGS.values() for mode in meanings} == {*MODES}
    assert {quantity_of(name).unit for name in (*QUANTITIES, *REWARDED, "regret")} == {"bits per token", "share"}
    assert [sign(name) for name in ("loss", "accuracy_late", "kl_words", "reward", "regret")] == [-1, 1, -1, 1, -1]
    with pytest.raises(KeyError):
        sign("lss")
