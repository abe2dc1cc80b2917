"""What is measured in constant memory, against sums over everything."""

from __future__ import annotations

import json
import math

import pytest

from ttt.serving.meter import POINTS, WARM_UP, Meter, Score, UsualRange


def meter_of(windows):
    meter = Meter()
    for i in range(windows):
        meter.add(Score(10, 10, float(i), 2.0 * i), tokens=10, size=10, norm=1.0 + i)
        meter.close_window()
    return meter


@pytest.mark.parametrize("windows", [1, POINTS, POINTS + 1, 3 * POINTS + 7, 1000])
def test_points_cover_the_text(windows):
    meter = meter_of(windows)
    assert len(meter.points) <= POINTS
    assert meter.total.nats == sum(range(windows)) == sum(point.score.nats for point in meter.points)
    ends = [point.end for point in meter.points]
    assert ends == [min((k + 1) * 10 * meter.stride, 10 * windows) for k in range(len(ends))]
    assert [point.norm for point in meter.points] == [end / 10 for end in ends]
    assert [point.score.bytes for point in meter.points] == [b - a for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("windows", [0, 3, 200])
def test_it_goes_on_from_json(windows):
    meter = meter_of(windows)
    assert Meter.from_json(json.loads(json.dumps(meter.as_json()))) == meter


def test_bits_per_byte():
    score = Score(tokens=3, bytes=8, nats=8 * math.log(2), plain=None)
    assert (score.bits, score.plain_bits) == (1.0, None)
    assert Score().bits is None
    score.add(Score(1, 8, 0.0))
    assert score.bits == 0.5


def test_a_norm_that_leaves_its_usual_range_is_said_once():
    usual = UsualRange()
    norms = [2.0 + 0.1 * (-1) ** i for i in range(WARM_UP + 10)]
    assert not any(usual.leaves(norm) for norm in norms)
    assert [usual.leaves(norm) for norm in (4.0, 4.0, 2.0, float("nan"), 2.0)] == [True, False, False, True, False]


def test_growth_at_the_start_is_usual():
    usual = UsualRange()
    assert not any(usual.leaves(1 - 0.9**i) for i in range(200))
