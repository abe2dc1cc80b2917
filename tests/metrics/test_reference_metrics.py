"""Metrics that compare a stream with reference networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from result_matrices import FALLS, REFERENCE_METRICS, plain_rows

from ttt.metrics.references import References, normalised, unmeasured

# References of a stream of three tasks.
REFERENCES = References(
    untrained=np.array([0.1, 0.1, 0.1]),
    fresh=np.array([0.9, 0.9, 0.8]),
    joint=np.array([[math.nan] * 3, [0.9, math.nan, math.nan], [0.8, 0.9, math.nan], [0.85, 0.9, 0.95]]),
    frozen=np.array([0.3, 0.2, 0.4]),
)


def test_metrics_that_need_references_by_hand():
    expected = {
        "fwt_b_untrained": ((0.2 - 0.1) + (0.5 - 0.1)) / 2,
        "fwt_independent": ((0.8 - 0.9) + (1.0 - 0.8)) / 2,
        "intransigence_joint": ((0.9 - 0.9) + (0.9 - 0.8) + (0.95 - 1.0)) / 3,
        "intransigence_joint_last": 0.95 - 1.0,
        "plasticity_gap_fresh": ((0.9 - 0.9) + (0.9 - 0.8) + (0.8 - 1.0)) / 3,
        "plasticity_gap_slope": ((0.8 - 1.0) - (0.9 - 0.9)) / 2,
        "score_final": (0.5 / 0.75 + 0.5 / 0.7 + 0.7 / 0.65) / 3,
        "score_learning": (0.8 / 0.75 + 0.6 / 0.7 + 0.7 / 0.65) / 3,
        "final_over_frozen": sum(FALLS[-1]) / 3 - (0.3 + 0.2 + 0.4) / 3,
    }
    assert set(expected) == set(REFERENCE_METRICS)
    for name, value in expected.items():
        assert REFERENCE_METRICS[name](FALLS, plain_rows(3), REFERENCES) == pytest.approx(value), name


def test_without_its_reference_a_metric_is_nan():
    at = plain_rows(3)
    for name, compare in REFERENCE_METRICS.items():
        assert math.isnan(compare(FALLS, at, unmeasured(phases=3, tasks=3))), name
    # A joint run over the whole stream measures its end only.
    last = np.where(np.arange(4)[:, None] == 3, REFERENCES.joint, math.nan)
    defined = {
        name
        for name, compare in REFERENCE_METRICS.items()
        if not math.isnan(compare(FALLS, at, REFERENCES._replace(joint=last)))
    }
    assert set(REFERENCE_METRICS) - defined == {"intransigence_joint"}


def test_references_of_a_single_task():
    frozen = np.array([0.2])
    references = References(np.array([0.1]), fresh=np.array([0.6]), joint=np.array([[math.nan], [0.7]]), frozen=frozen)
    values = {
        name: compare(np.array([[0.0], [0.5]]), plain_rows(1), references)
        for name, compare in REFERENCE_METRICS.items()
    }
    undefined = {"fwt_b_untrained", "fwt_independent", "plasticity_gap_slope"}
    assert {name for name, value in values.items() if math.isnan(value)} == undefined
    assert values["intransigence_joint"] == values["intransigence_joint_last"] == pytest.approx(0.2)


@given(arrays(np.float64, (4, 3), elements=st.floats(0, 8)), st.floats(-3, 3), st.floats(0.1, 10))
def test_a_normalised_score_has_no_unit_and_no_origin(loss, constant, scale):
    joint = np.full((4, 3), -1.0)
    references = REFERENCES._replace(joint=joint)
    a = np.vstack([[-8.0, -9.0, -10.0], -loss[1:]])
    score = normalised(a, references)
    assert score[0] == pytest.approx(0)
    moved = normalised(scale * a + constant, references._replace(joint=scale * joint + constant), noise=0.0)
    assert moved == pytest.approx(score)
    assert normalised(joint[-1:] * np.ones((2, 1)) + [[-1.0], [0.0]], references)[1] == pytest.approx(1)


def test_a_task_without_room_to_learn_has_no_score():
    a = np.array([[0.1, 0.895], [0.9, 0.9], [0.8, 0.95]])
    joint = np.array([[math.nan] * 2, [math.nan] * 2, [0.9, 0.9]])
    score = normalised(a, References(a[0], a[-1], joint, a[0]))
    assert score[-1] == pytest.approx([0.7 / 0.8, math.nan], nan_ok=True)
