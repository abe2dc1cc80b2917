"""Results out of the text of a file are those of the whole file, whatever is asked for first."""

from __future__ import annotations

import copy
import json
import math

import pytest
from drawn_results import drawn_results

from ttt.results import catalogue, written
from ttt.results.results import Results
from ttt.results.saved import as_json, from_json
from ttt.results.written import from_text


def text_of(results):
    """A file up to its hash, and what follows."""
    text = json.dumps(as_json(results), indent=2, ensure_ascii=False).removesuffix("\n}").encode()
    return text + b',\n  "sha256": "0"\n}\n', len(text)


def read(results):
    text, end = text_of(results)
    return from_text(text, end=end)


def with_holes(results):
    """Rows of two tasks only, values that nobody measured, and sets that the model knew."""
    holed = copy.deepcopy(results)
    for row in holed.rows[1:-1]:
        row["columns"] = row["columns"][:2]
        row["scores"] = {mode: {q: [math.nan, x[0]] for q, x in each.items()} for mode, each in row["scores"].items()}
        row["base"], row["profile"] = None, None
    for row in holed.rows:
        # Names with all that JSON must escape.
        row["known_sets"] = {'a "null" \\ set é': {"slow": {"loss": [math.nan], "accuracy": [0.5]}}}
    return holed


def unpointed(results):
    return drawn_results(anytime=False)


@pytest.fixture(params=["learner", "policy"])
def measured(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("change", [lambda results: results, with_holes, unpointed], ids=["whole", "holes", "plain"])
def test_every_number_is_that_of_the_whole_file(measured, change):
    results = change(measured)
    plain = from_json(json.loads(text_of(results)[0]))
    expected = {name: repr(value) for name, value in catalogue.metrics(plain).items()}
    # The matrices come first, out of the text, and the rows last; then the other way round.
    ours = read(results)
    assert {name: repr(catalogue.metric(ours, name)) for name in expected} == expected
    assert ours.known_sets.keys() == plain.known_sets.keys()
    assert as_json(ours) == as_json(plain)
    ours = read(results)
    assert repr(ours.rows) == repr(plain.rows)
    assert {name: repr(value) for name, value in catalogue.metrics(ours).items()} == expected
    assert (ours.headline, ours.row_count) == (plain.headline, plain.row_count)


def test_a_table_needs_no_rows(learner, monkeypatch):
    ours = read(learner)
    monkeypatch.setattr(written, "rows_from_json", lambda rows: pytest.fail("parsed"))
    name = "fast/loss/forgetting_max_seen"
    assert catalogue.metric(ours, name) == catalogue.metric(learner, name)
    assert (ours.headline, ours.row_count, ours.known_sets) == ("fast/loss", 4, {})


def test_rows_that_are_replaced_are_those_that_count(learner):
    ours = read(learner)
    assert ours.row_count == 4
    ours.rows = []
    assert (ours.row_count, ours.modes, ours.quantities, ours.known_sets) == (0, [], [], {})
    assert math.isnan(catalogue.metric(ours, "fast/loss/avg_final"))


def test_what_was_not_measured_is_refused_as_by_rows(learner):
    for mode, quantity in (("fast", "other"), ("other", "loss")):
        with pytest.raises(KeyError):
            read(learner).matrix(mode, quantity)


def test_keys_in_another_order_are_read_as_a_whole(learner):
    content = as_json(learner)
    text = json.dumps(dict(sorted(content.items())), indent=2).removesuffix("\n}").encode()
    ours = from_text(text, end=len(text))
    assert type(ours) is Results
    assert as_json(ours) == content
