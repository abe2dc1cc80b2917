"""Results in results.json and back."""

from __future__ import annotations

import json
import math

import pytest
from drawn_results import drawn_results

from ttt.results.saved import as_json, from_json
from ttt.results.scores import QUANTITIES


def test_everything_comes_back_from_json():
    results = drawn_results()
    results.relearned = [
        {"task": 0, "steps": [0, 10], "scores": {m: {q: [0.1, 0.9] for q in QUANTITIES} for m in results.modes}}
    ]
    results.rows[0]["profile"] = [[1.0, math.nan], [1.0, 2.0], [3.0, 4.0]]
    results.rows[1]["diagnostics"] = {"probe/x/erank": 3.0, "probe/y/erank": math.nan}
    results.points[0]["scores"]["slow"]["loss"][0] = math.nan
    text = json.dumps(as_json(results))
    again = from_json(json.loads(text))
    assert json.dumps(as_json(again)) == text
    assert math.isnan(again.points[0]["scores"]["slow"]["loss"][0])
    assert again.points[1]["step"] == 20
    with pytest.raises(ValueError, match="another version"):
        from_json({k: v for k, v in json.loads(text).items() if k != "anytime"})
