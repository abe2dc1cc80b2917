"""The catalogue: one line is a whole metric; each name has a direction, a unit and a label."""

from __future__ import annotations

import math

import numpy as np
import pytest
from comparisons import cells
from fake_runs import make_run

from ttt.metrics.matrix import mean_of
from ttt.results import catalogue
from ttt.results.definitions import COSTS, DRIFT, FAST_GAIN, METRICS, PLASTICITY, REGRET, SPLIT
from ttt.results.metric import Metric
from ttt.results.results import Results
from ttt.results.saved import as_json
from ttt.results.scores import QUANTITIES
from ttt.results.tuning import direction


def worst_final(a, at):
    """The worst task at the end."""
    return float(a[-1].min())


def test_a_metric_is_one_line_and_its_function(tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "worst_final", Metric(worst_final, "R", "value", "{}", "worst task at the end"))
    run = make_run(tmp_path, tasks=3, journal=False)
    (cell,) = cells(tmp_path, "--metrics", "fast/loss/worst_final")
    assert cell["mean"] > cells(tmp_path, "--metrics", "fast/loss/avg_final")[0]["mean"]
    # It stands in results.json, is followed along the stream, and can be searched for.
    assert f'"fast/loss/worst_final": {cell["mean"]}' in (run / "results.json").read_text()
    curve = [x["mean"] for x in cells(tmp_path, "--curve", "fast/loss/worst_final")]
    assert curve[0] is None
    assert curve[-1] == cell["mean"]
    assert (direction("fast/loss/worst_final"), direction("fast/accuracy/worst_final")) == ("minimize", "maximize")
    assert catalogue.unit_of("fast/accuracy/worst_final") == "share"
    assert catalogue.title("fast/loss/worst_final") == "loss worst task at the end"


def test_a_new_one_says_why_it_is_undefined(monkeypatch):
    monkeypatch.setitem(METRICS, "mean_last", Metric(lambda a, at: mean_of(a[-1]), "R", "value", "{}", "last"))
    results = Results(scenario="", tasks=["a", "b"], fingerprints=[""] * 2, learned_at=[1, 2], entropy=[0, 0], phases=2)
    for columns in ([0, 1], [0, 1], [1]):
        scores = {mode: {quantity: [0.5] * len(columns) for quantity in QUANTITIES} for mode in ("slow", "fast")}
        results.add(columns=columns, scores=scores, base=None)
    content = as_json(results)
    assert content["metrics"]["slow/loss/mean_last"] is None
    assert content["undefined"]["slow/loss/mean_last"] == "task 1 was not measured in row 2 (see eval.every)"


def test_a_run_that_measures_everything_has_every_metric(learner):
    measured = {name.split("/")[2] for name in catalogue.names(learner)}
    tables = (METRICS, REGRET, FAST_GAIN, SPLIT, PLASTICITY, DRIFT)
    assert measured - {"lca_2"} == {name for table in tables for name in table}
    assert all(math.isfinite(x) or catalogue.why(learner, name) for name, x in catalogue.metrics(learner).items())


@pytest.mark.parametrize("run", ["learner", "policy"])
def test_every_name_says_how_to_read_it(run, request):
    results = request.getfixturevalue(run)
    for name in (*catalogue.names(results), *(f"cost/run/{key}" for key in COSTS)):
        assert catalogue.better(name) in (-1, 1)
        assert catalogue.unit_of(name)
        assert catalogue.label(name)
        assert catalogue.side(name).endswith("harm" if catalogue.find(name).better == "harm" else ("better", "gain"))


def test_a_policy_has_no_part_of_reading(policy, learner):
    """Its prompts are not written while they are read."""
    parts = [{name.split("/")[2] for name in catalogue.names(run) if name.startswith("split/loss/")}
             for run in (policy, learner)]  # fmt: skip
    assert "forgetting_read" in parts[1]
    assert "forgetting_read" not in parts[0]
    split = [catalogue.metric(policy, f"split/success/forgetting_{part}") for part in ("slow", "carried")]
    assert sum(split) == pytest.approx(catalogue.metric(policy, "carried/success/forgetting_at_learn"))


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("fast/loss/avg_final", -1),
        ("fast/accuracy/avg_final", 1),
        ("slow/kl/avg_final", -1),
        ("slow/success/wc_acc", 1),
        ("slow/loss/lca_4", -1),
        ("slow/loss/fwt_pairs_raw", -1),
        ("slow/loss/forgetting_max_seen", -1),
        ("slow/accuracy/forgetting_at_learn", -1),
        ("slow/loss/bwt_gem", 1),
        ("slow/loss/base_final", -1),
        ("slow/accuracy/base_final", 1),
        ("slow/accuracy/base_forgetting", -1),
        ("slow/regret/avg_final", -1),
        ("slow/loss/intransigence_joint", -1),
        ("slow/loss/score_final", 1),
        ("slow/loss/gap_length_censored", -1),
        ("slow/loss/savings_slow", 1),
        ("fast/loss/savings_fast_censored", -1),
        ("fast_gain/loss/avg_final", 1),
        ("fast_gain/loss/lost_access", -1),
        ("split/loss/plasticity_slow", -1),
        ("split/loss/fast_share_plasticity", 1),
        ("slow/plasticity/dormant_tau0.1", -1),
        ("slow/plasticity/erank", 1),
        ("fast/drift/kl_base", -1),
        ("cost/run/training_tokens_per_second", 1),
        ("cost/run/seconds", -1),
    ],
)
def test_directions(name, sign):
    assert catalogue.better(name) == sign


def test_zero_means_no_effect_for_differences_alone():
    signed = ("slow/loss/bwt_gem", "slow/loss/forgetting_at_learn", "slow/loss/learning_slope", "slow/loss/fwt_b_row0",
              "fast_gain/loss/fast_share", "slow/loss/plasticity_gap_fresh", "slow/loss/final_over_frozen")  # fmt: skip
    plain = ("slow/loss/avg_final", "slow/loss/fwt_pairs_raw", "slow/loss/score_final", "slow/loss/gap_length",
             "slow/loss/savings_slow", "slow/plasticity/erank", "cost/run/seconds")  # fmt: skip
    assert all(map(catalogue.is_signed, signed))
    assert not any(map(catalogue.is_signed, plain))
    # A larger state is neither better nor worse.
    assert not catalogue.is_judged("cost/run/fast_state_numbers")


def test_what_was_not_measured_is_nan_and_what_does_not_exist_an_error(learner):
    for name in ("archived/loss/avg_final", "slow/success/avg_final", "cost/run/seconds"):
        assert math.isnan(catalogue.metric(learner, name))
    with pytest.raises(KeyError, match="avg_finl"):
        catalogue.metric(learner, "slow/loss/avg_finl")
    for name, word in (("foo", "foo"), ("slow/loss/lca_x", "lca_x")):
        with pytest.raises(KeyError, match=word):
            catalogue.metric(learner, name)


def test_a_diagnostic_is_a_mean_over_layers_in_each_row(learner):
    rows = [row["diagnostics"]["probe/layer/erank"] for row in learner.rows]
    assert catalogue.after_each_row(learner, "slow/plasticity/erank") == rows
    assert catalogue.metric(learner, "slow/plasticity/erank") == rows[-1]


def test_a_gain_along_the_stream_is_that_of_the_difference(learner):
    gain = learner.matrix("slow", "loss") - learner.matrix("fast", "loss")
    along = catalogue.after_each_row(learner, "fast_gain/loss/avg_final")
    assert along[1:] == pytest.approx([gain[i, :i].mean() for i in range(1, 4)])
    assert np.isnan(along[0])
