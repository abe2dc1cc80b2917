"""Metrics on matrices written by hand, against their formulas spelled out, their identities, and intervals against
scipy's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttt.metrics import split
from ttt.metrics.frontier import dominated_area
from ttt.metrics.matrix import AVERAGES, METRICS, along, needed_cell, plain_rows, why_undefined
from ttt.metrics.references import REFERENCE_METRICS, References, normalised, unmeasured
from ttt.metrics.seeds import sign_flip, t_interval
from ttt.results.catalogue import better
from ttt.results.results import Results
from ttt.results.scores import QUANTITIES


def metric(name, a):
    """Where each task is learned once, in order."""
    return METRICS[name](a, plain_rows(a.shape[1]))


# Rows: before the stream, after task 1, 2, 3. Task 1 falls, then comes back a little.
FALLS = np.array([[0.1, 0.2, 0.3], [0.9, 0.2, 0.4], [0.5, 0.8, 0.5], [0.6, 0.7, 1.0]])
# Later training helps task 1; zero-shot on task 2 beats what learning leaves.
HELPS = np.array([[0.0, 0.9, 0.0], [0.5, 0.9, 0.0], [0.6, 0.4, 0.0], [0.8, 0.5, 0.7]])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (
            FALLS,
            {
                "avg_before": (0.1 + 0.2 + 0.3) / 3,
                "avg_final": (0.6 + 0.7 + 1.0) / 3,
                "avg_learning": (0.9 + 0.8 + 1.0) / 3,
                "avg_incremental": (0.9 + (0.5 + 0.8) / 2 + (0.6 + 0.7 + 1.0) / 3) / 3,
                "avg_triangle": (0.9 + 0.5 + 0.8 + 0.6 + 0.7 + 1.0) / 6,
                "forgetting_max_seen": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "forgetting_max_rows": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "forgetting_max_last": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "forgetting_at_learn": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "bwt_gem": ((0.6 - 0.9) + (0.7 - 0.8)) / 2,
                "bwt_pairs": ((0.5 - 0.9) + (0.6 - 0.9) + (0.7 - 0.8)) / 3,
                "fwt_b_row0": ((0.2 - 0.2) + (0.5 - 0.3)) / 2,
                "fwt_pairs_raw": (0.2 + 0.4 + 0.5) / 3,
                "learning_slope": (1.0 - 0.9) / 2,
            },
        ),
        (
            HELPS,
            {
                "avg_before": 0.9 / 3,
                "avg_final": 2.0 / 3,
                "avg_learning": (0.5 + 0.4 + 0.7) / 3,
                "avg_incremental": (0.5 + (0.6 + 0.4) / 2 + 2.0 / 3) / 3,
                "avg_triangle": (0.5 + 0.6 + 0.4 + 0.8 + 0.5 + 0.7) / 6,
                "forgetting_max_seen": ((0.6 - 0.8) + (0.4 - 0.5)) / 2,
                # Row 1, before task 2 was learned, counts here alone.
                "forgetting_max_rows": ((0.6 - 0.8) + (0.9 - 0.5)) / 2,
                "forgetting_max_last": 0.0,
                "forgetting_at_learn": ((0.5 - 0.8) + (0.4 - 0.5)) / 2,
                "bwt_gem": ((0.8 - 0.5) + (0.5 - 0.4)) / 2,
                "bwt_pairs": ((0.6 - 0.5) + (0.8 - 0.5) + (0.5 - 0.4)) / 3,
                "fwt_b_row0": 0.0,
                "fwt_pairs_raw": 0.9 / 3,
                "learning_slope": (0.7 - 0.5) / 2,
            },
        ),
        # Losses of two tasks, oriented by the caller: forgetting is positive when the loss went up.
        (
            -np.array([[4.0, 4.0], [2.0, 3.5], [3.0, 1.0]]),
            {
                "avg_before": -4.0,
                "avg_final": -2.0,
                "avg_learning": -1.5,
                "avg_incremental": -(2.0 + (3.0 + 1.0) / 2) / 2,
                "avg_triangle": -(2.0 + 3.0 + 1.0) / 3,
                "forgetting_max_seen": 1.0,
                "forgetting_max_rows": 1.0,
                "forgetting_max_last": 1.0,
                "forgetting_at_learn": 1.0,
                "bwt_gem": -1.0,
                "bwt_pairs": -1.0,
                "fwt_b_row0": 0.5,
                "fwt_pairs_raw": -3.5,
                "learning_slope": math.nan,
            },
        ),
        (
            np.array([[0.0], [0.5]]),
            {name: math.nan for name in METRICS}
            | {"avg_before": 0.0, "avg_final": 0.5, "avg_learning": 0.5, "avg_incremental": 0.5, "avg_triangle": 0.5},
        ),
    ],
)
def test_by_hand(matrix, expected):
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        assert metric(name, matrix) == pytest.approx(value, nan_ok=True, abs=1e-12), name


def spelled_out(name, a, at, rows, tasks):
    """The formula of a metric, cell by cell; a(i, j) reads one. P = the last of `rows`."""
    p, old = rows[-1], [j for j in tasks if at[j] < rows[-1]]

    def mean(values):
        values = list(values)
        return sum(values) / len(values) if values else math.nan

    formulas = {
        "avg_before": lambda: mean(a(0, j) for j in tasks),
        "avg_final": lambda: mean(a(p, j) for j in tasks),
        "avg_learning": lambda: mean(a(at[j], j) for j in tasks),
        "avg_incremental": lambda: mean(mean(a(i, j) for j in tasks if at[j] <= i) for i in rows[1:]),
        "avg_triangle": lambda: mean(a(i, j) for j in tasks for i in rows if i >= at[j]),
        "forgetting_max_seen": lambda: mean(max(a(i, j) for i in range(at[j], p)) - a(p, j) for j in old),
        "forgetting_max_rows": lambda: mean(max(a(i, j) for i in range(1, p)) - a(p, j) for j in old),
        "forgetting_max_last": lambda: mean(max(a(i, j) for i in range(at[j], p + 1)) - a(p, j) for j in old),
        "forgetting_at_learn": lambda: mean(a(at[j], j) - a(p, j) for j in old),
        "bwt_gem": lambda: mean(a(p, j) - a(at[j], j) for j in old),
        "bwt_pairs": lambda: mean(a(i, j) - a(at[j], j) for j in tasks for i in rows if i > at[j]),
        "fwt_b_row0": lambda: mean(a(at[j] - 1, j) - a(0, j) for j in tasks if at[j] > 1),
        "fwt_pairs_raw": lambda: mean(a(i, j) for j in tasks for i in rows if 1 <= i < at[j]),
    }
    return formulas[name]()


SPELLED = [name for name in METRICS if name != "learning_slope"]


@st.composite
def streams(draw):
    """A matrix and the rows of learning of a stream that comes back to some of its tasks."""
    count = draw(st.integers(1, 5))
    again = draw(st.lists(st.integers(0, count - 1), max_size=3))
    taught = draw(st.permutations([*range(count), *again]))
    at = np.array([taught.index(j) + 1 for j in range(count)])
    return draw(arrays(np.float64, (len(taught) + 1, count), elements=st.floats(-5, 5))), at


@given(streams(), st.sampled_from(SPELLED))
def test_every_metric_is_its_formula_also_where_tasks_come_again(stream, name):
    a, at = stream
    value = spelled_out(name, lambda i, j: a[i, j], at, range(len(a)), range(len(at)))
    assert METRICS[name](a, at) == pytest.approx(value, nan_ok=True, abs=1e-9)


@given(streams(), st.sampled_from(SPELLED), st.data())
def test_a_metric_is_nan_just_where_it_needs_an_unmeasured_cell(stream, name, data):
    """Which cells it needs is seen from those that its formula reads."""
    a, at = stream
    read = set()
    spelled_out(name, lambda i, j: read.add((i, j)) or a[i, j], at, range(len(a)), range(len(at)))
    holes = a.copy()
    cells = [(i, j) for i in range(len(a)) for j in range(len(at))]
    missing = data.draw(st.sets(st.sampled_from(cells), min_size=1))
    holes[tuple(np.array(sorted(missing)).T)] = np.nan
    if not read:
        assert math.isnan(METRICS[name](holes, at))
        assert needed_cell(METRICS[name], holes, at) is None
    elif read & missing:
        assert math.isnan(METRICS[name](holes, at))
        assert needed_cell(METRICS[name], holes, at) == min(read & missing)
    else:
        assert METRICS[name](holes, at) == METRICS[name](a, at)


MATRICES = st.integers(2, 6).flatmap(lambda j: arrays(np.float64, (j + 1, j), elements=st.floats(-5, 5)))


@given(MATRICES)
def test_identities(a):
    assert metric("forgetting_at_learn", a) == pytest.approx(-metric("bwt_gem", a))
    assert metric("forgetting_max_seen", a) >= metric("forgetting_at_learn", a) - 1e-12
    assert metric("forgetting_max_rows", a) >= metric("forgetting_max_seen", a) - 1e-12
    assert metric("forgetting_max_last", a) >= max(metric("forgetting_max_seen", a) - 1e-12, 0)


@given(MATRICES)
def test_what_was_after_every_row_averages_to_the_incremental_and_the_pairwise_metrics(a):
    at = plain_rows(a.shape[1])
    assert metric("avg_incremental", a) == pytest.approx(np.mean(along(METRICS["avg_final"], a, at)[1:]), abs=1e-9)
    # Every row k has k - 1 old tasks, and as many pairs.
    bwt = along(METRICS["bwt_gem"], a, at)[2:]
    assert metric("bwt_pairs", a) == pytest.approx(np.average(bwt, weights=range(1, a.shape[1])), abs=1e-9)


@given(MATRICES, st.floats(-3, 3))
def test_a_constant_changes_no_difference(a, constant):
    for name in METRICS:
        shift = constant if name in AVERAGES else 0
        assert metric(name, a + constant) == pytest.approx(metric(name, a) + shift, abs=1e-9, nan_ok=True), name


def test_a_constant_matrix_forgets_nothing():
    for name in METRICS:
        assert metric(name, np.full((5, 4), 0.7)) == pytest.approx(0.7 if name in AVERAGES else 0), name


def test_an_unmeasured_cell_is_nan_and_named():
    a = FALLS.copy()
    a[3, 0] = np.nan
    assert math.isnan(metric("avg_final", a))
    assert math.isnan(metric("forgetting_max_seen", a))
    # What does not need the cell is still known.
    assert metric("avg_learning", a) == pytest.approx(0.9)
    assert metric("fwt_b_row0", a) == pytest.approx(0.1)
    assert why_undefined(METRICS["avg_final"], a, plain_rows(3)) == "task 1 was not measured in row 3 (see eval.every)"
    assert why_undefined(METRICS["bwt_gem"], np.zeros((2, 1)), plain_rows(1)) == "undefined for 1 task"
    assert why_undefined(METRICS["learning_slope"], np.zeros((3, 2)), plain_rows(2)) == "undefined for 2 tasks"


def test_a_task_that_comes_again_counts_from_its_first_time():
    """Tasks 1, 2, 1: both are old at the end, for the last phase teaches none for the first time."""
    a = np.array([[0.0, 0.1], [0.8, 0.2], [0.3, 0.9], [0.7, 0.5]])
    at = np.array([1, 2])
    assert METRICS["avg_learning"](a, at) == pytest.approx((0.8 + 0.9) / 2)
    assert METRICS["forgetting_max_seen"](a, at) == pytest.approx(((0.8 - 0.7) + (0.9 - 0.5)) / 2)
    assert METRICS["bwt_gem"](a, at) == pytest.approx(((0.7 - 0.8) + (0.5 - 0.9)) / 2)
    assert METRICS["bwt_pairs"](a, at) == pytest.approx(((0.3 - 0.8) + (0.7 - 0.8) + (0.5 - 0.9)) / 3)
    assert METRICS["forgetting_max_last"](a, at) == pytest.approx(((0.8 - 0.7) + (0.9 - 0.5)) / 2)
    assert METRICS["avg_incremental"](a, at) == pytest.approx((0.8 + (0.3 + 0.9) / 2 + (0.7 + 0.5) / 2) / 3)
    assert METRICS["avg_triangle"](a, at) == pytest.approx((0.8 + 0.3 + 0.7 + 0.9 + 0.5) / 5)
    assert METRICS["fwt_b_row0"](a, at) == pytest.approx(0.2 - 0.1)
    assert METRICS["fwt_pairs_raw"](a, at) == pytest.approx(0.2)


def test_a_thinned_matrix_keeps_what_it_can():
    """Diagonal, the cell before it, and the last row: learning, forgetting since learning and transfer are known."""
    full = np.random.default_rng(0).normal(size=(7, 6))
    thin = np.full_like(full, np.nan)
    thin[[0, -1]] = full[[0, -1]]
    for i in range(1, 6):
        thin[i, [i - 1, i]] = full[i, [i - 1, i]]
    for name in ("avg_learning", "avg_final", "forgetting_at_learn", "bwt_gem", "fwt_b_row0"):
        assert metric(name, thin) == pytest.approx(metric(name, full)), name
    for name in ("forgetting_max_seen", "forgetting_max_rows", "avg_incremental", "bwt_pairs", "fwt_pairs_raw"):
        assert math.isnan(metric(name, thin)), name
    # The first that is missing, task 3 in row 1, is none that forgetting needs.
    assert needed_cell(METRICS["forgetting_max_seen"], thin, plain_rows(6)) == (2, 0)


# What went through no stream, for three tasks.
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
    # One joint run over the whole stream tells of its end alone.
    last = np.where(np.arange(4)[:, None] == 3, REFERENCES.joint, math.nan)
    known = {
        name
        for name, compare in REFERENCE_METRICS.items()
        if not math.isnan(compare(FALLS, at, REFERENCES._replace(joint=last)))
    }
    assert set(REFERENCE_METRICS) - known == {"intransigence_joint"}


def test_references_of_one_task_alone():
    frozen = np.array([0.2])
    one = References(np.array([0.1]), fresh=np.array([0.6]), joint=np.array([[math.nan], [0.7]]), frozen=frozen)
    values = {
        name: compare(np.array([[0.0], [0.5]]), plain_rows(1), one) for name, compare in REFERENCE_METRICS.items()
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


# Modes of two tasks, losses turned round. Reading adds 0.5 right after learning, and 1.5 at the end.
SLOW = -np.array([[4.0, 4.0], [2.0, 4.0], [5.0, 2.0]])
FAST = -np.array([[3.5, 3.5], [1.5, 3.5], [3.5, 1.5]])
# What was carried helps by 0.25 right after learning, and is in the way at the end.
CARRIED = -np.array([[3.5, 3.5], [1.25, 3.5], [4.0, 1.25]])


def test_the_split_by_hand():
    at = plain_rows(2)
    assert split.access_recovered(SLOW, FAST, at) == pytest.approx(1.5)
    assert split.lost_access(SLOW, FAST, at) == pytest.approx(1.0)
    assert split.lost_knowledge(FAST, at) == pytest.approx(2.0)
    assert split.forgetting_recovered(SLOW, FAST, at) == pytest.approx(3.0 - 2.0)
    assert split.fast_share(SLOW, FAST, at) == pytest.approx(1 / 3)
    shares = split.parts(METRICS["forgetting_at_learn"], at, slow=SLOW, fast=FAST, carried=CARRIED)
    assert shares == pytest.approx((3.0, -1.0, 0.75))
    assert math.isnan(split.parts(METRICS["bwt_gem"], at, slow=SLOW, fast=FAST).carried)


def test_a_share_of_nothing_is_undefined():
    at = plain_rows(2)
    for slow in (-SLOW, np.full((3, 2), 0.5), np.array([[0.0, 0.0], [0.5, 0.0], [0.495, 0.5]])):
        assert math.isnan(split.fast_share(slow, FAST, at))
    assert math.isnan(split.fast_share(np.array([[0.0], [0.5]]), np.array([[0.0], [0.5]]), plain_rows(1)))
    for name, part in split.SPLIT.items():
        assert math.isnan(part(np.array([[0.0], [0.5]]), np.array([[0.0], [0.5]]), plain_rows(1))), name


THREE_MODES = st.integers(2, 5).flatmap(lambda j: arrays(np.float64, (3, j + 1, j), elements=st.floats(-5, 5)))


@given(THREE_MODES)
def test_the_parts_add_up(modes):
    slow, fast, carried = modes
    at = plain_rows(slow.shape[1])
    for linear in split.LINEAR:
        found = split.parts(linear, at, slow=slow, fast=fast, carried=carried)
        assert found.slow + found.read == pytest.approx(linear(fast, at), abs=1e-9, nan_ok=True)
        assert sum(found) == pytest.approx(linear(carried, at), abs=1e-9, nan_ok=True)
    forgotten = METRICS["forgetting_at_learn"](slow, at)
    whole = split.lost_knowledge(fast, at) + split.lost_access(slow, fast, at)
    assert whole == pytest.approx(forgotten, abs=1e-9)
    assert split.lost_access(slow, slow, at) == pytest.approx(0)
    if forgotten > 0.1:
        share = split.fast_share(slow, fast, at)
        assert share * forgotten == pytest.approx(split.lost_access(slow, fast, at), abs=1e-9)


def test_a_maximum_does_not_split():
    with pytest.raises(AssertionError, match="forgetting_max_seen is not linear"):
        split.parts(METRICS["forgetting_max_seen"], plain_rows(2), slow=SLOW, fast=FAST)


def test_lost_plasticity_splits_too():
    """The slow weights learn 0.2 less with every task; reading makes up for half of that."""
    at = plain_rows(4)
    slow = np.zeros((5, 4))
    fast = np.zeros((5, 4))
    slow[at, np.arange(4)] = 0.9 - 0.2 * np.arange(4)
    fast[at, np.arange(4)] = 0.9 - 0.1 * np.arange(4)
    assert split.plasticity_loss(slow, at) == pytest.approx(0.2)
    assert split.fast_share(slow, fast, at, harm=split.plasticity_loss) == pytest.approx(0.5)
    assert split.parts(METRICS["learning_slope"], at, slow=slow, fast=fast)[:2] == pytest.approx((-0.2, 0.1))


def results_of(slow, fast):
    """Results of two modes whose every quantity is this."""
    tasks = slow.shape[1]
    results = Results(
        scenario="domain",
        tasks=[str(j) for j in range(tasks)],
        fingerprints=["" for _ in range(tasks)],
        learned_at=range(1, tasks + 1),
        entropy=[math.nan] * tasks,
        phases=tasks,
    )
    for i in range(tasks + 1):
        row = {mode: dict.fromkeys(QUANTITIES, a[i].tolist()) for mode, a in (("slow", slow), ("fast", fast))}
        results.add(columns=list(range(tasks)), scores=row, base=None)
    return results


def test_results_have_every_metric_and_turn_losses_round():
    results = results_of(-SLOW, -FAST)
    found = results.metrics()
    assert found["fast/loss/avg_triangle"] == pytest.approx((1.5 + 3.5 + 1.5) / 3)
    assert found["fast/loss/fwt_pairs_raw"] == pytest.approx(3.5)
    assert found["slow/loss/forgetting_max_last"] == found["slow/loss/forgetting_max_rows"] == pytest.approx(3)
    assert found["fast_gain/loss/lost_access"] == found["fast_gain/loss/forgetting_recovered"] == pytest.approx(1)
    assert found["fast_gain/loss/access_recovered"] == pytest.approx(1.5)
    assert found["fast_gain/loss/fast_share"] == pytest.approx(1 / 3)
    # The same numbers as accuracies: nothing was forgotten.
    assert math.isnan(found["fast_gain/accuracy/fast_share"])
    assert found["fast_gain/accuracy/lost_access"] == pytest.approx(-1)


def test_results_say_why_a_metric_is_nan():
    holes = FALLS.copy()
    holes[[1, 2], [2, 0]] = math.nan
    results = results_of(holes, holes)
    undefined = results.as_json()["undefined"]
    assert undefined["fast/accuracy/forgetting_max_seen"] == "task 1 was not measured in row 2 (see eval.every)"
    assert undefined["fast/accuracy/fwt_pairs_raw"] == "task 3 was not measured in row 1 (see eval.every)"
    assert undefined["fast_gain/loss/forgetting_recovered"] == "task 1 was not measured in row 2 (see eval.every)"
    assert undefined["fast/loss/base_final"] == "the base distribution was not measured"
    assert "fast/accuracy/forgetting_at_learn" not in undefined
    # As a loss, FALLS is forgotten by no one.
    assert undefined["fast_gain/loss/fast_share"] == "the slow weights forgot no more than 0.01"
    assert "fast_gain/accuracy/fast_share" not in undefined
    assert results.why("fast/regret/avg_final") == "the entropy of a task is not known"
    assert results.why("fast/regret/avg_triangle") == "task 1 was not measured in row 2 (see eval.every)"
    one = results_of(np.array([[0.0], [0.5]]), np.array([[0.0], [0.5]])).as_json()["undefined"]
    assert one["slow/loss/bwt_pairs"] == one["fast_gain/loss/fast_share"] == "undefined for 1 task"


def test_which_way_is_better():
    for name in ("forgetting_max_last", "forgetting_max_rows"):
        assert better(f"fast/loss/{name}") == better(f"fast/accuracy/{name}") == -1
    for name in ("avg_incremental", "avg_triangle", "fwt_pairs_raw"):
        assert (better(f"fast/loss/{name}"), better(f"fast/accuracy/{name}")) == (-1, 1)
    for name in ("avg_final", "fast_share", "forgetting_recovered"):
        assert better(f"fast_gain/loss/{name}") == 1


def test_t_interval_against_the_published_quantiles():
    for n, quantile in ((3, 4.303), (5, 2.776), (10, 2.262), (20, 2.093)):
        values = list(range(n))
        interval = t_interval(values)
        assert interval.mean == pytest.approx((n - 1) / 2)
        assert interval.half == pytest.approx(quantile * np.std(values, ddof=1) / math.sqrt(n), rel=1e-3)
    assert math.isnan(t_interval([1.0]).half)
    assert not t_interval([1.0]).resolved


def test_the_sign_flip_test_by_hand():
    # Of the 8 sign patterns only +++ and --- reach a mean of 2.
    assert sign_flip([1.0, 2.0, 3.0]) == pytest.approx(2 / 8)
    # The sum is 1 and no pattern has a smaller one.
    assert sign_flip([1.0, 2.0, -2.0]) == pytest.approx(1.0)
    assert math.isnan(sign_flip([1.0]))
    assert math.isnan(sign_flip([1.0, float("nan")]))


def test_a_metric_along_the_stream_by_hand():
    a = np.array([[0.1, 0.2], [0.8, 0.3], [0.5, 0.9]])
    at = plain_rows(2)
    assert along(METRICS["avg_final"], a, at) == pytest.approx([math.nan, 0.8, 0.7], nan_ok=True)
    assert along(METRICS["forgetting_at_learn"], a, at) == pytest.approx([math.nan, math.nan, 0.3], nan_ok=True)
    # Not measured in a row: no mean there, but in the next.
    a = np.array([[0.1, 0.2, 0.0], [0.8, 0.3, 0.0], [math.nan, 0.9, 0.0], [0.7, 0.8, 0.9]])
    assert along(METRICS["avg_final"], a, plain_rows(3)) == pytest.approx([math.nan, 0.8, math.nan, 0.8], nan_ok=True)


def test_the_dominated_area_by_hand():
    assert dominated_area([(2.0, 1.0)], reference=(0.0, 0.0)) == 2.0
    # A staircase: 1 x 3, then what 2 x 2 and 3 x 1 add.
    assert dominated_area([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], reference=(0.0, 0.0)) == 6.0
    assert dominated_area([(1.0, 1.0), (-1.0, 5.0)], reference=(0.0, 0.0)) == 1.0
    assert dominated_area([], reference=(0.0, 0.0)) == 0.0
    assert math.isnan(dominated_area([(1.0, math.nan)], reference=(0.0, 0.0)))


@given(st.lists(st.tuples(st.integers(-3, 8), st.integers(-3, 8)), max_size=8))
def test_the_dominated_area_counts_unit_squares(points):
    """On whole numbers the area is the number of unit squares that some point dominates."""
    squares = sum(any(x > i and y > j for x, y in points) for i in range(8) for j in range(8))
    assert dominated_area([(float(x), float(y)) for x, y in points], reference=(0.0, 0.0)) == squares
