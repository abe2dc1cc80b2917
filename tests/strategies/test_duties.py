"""What every strategy owes: it changes what is learned, stays finite, and reports what it does."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from learning import learn_task
from strategy_jobs import JOBS, MLP, NANO, PENALTIES, SERVED, SPLIT, STRATEGIES, learned, make, weights

from ttt.learner import slow_hash
from ttt.training.finite import NonFiniteError
from ttt.training.train import train

# In the first task there is nothing to protect yet, so these learn it as naive does.
LATE = (
    "cumulative", "independent", "replay", "der", "agem", "lwf", "l2", "ewc", "online_ewc", "si", "mas", "layer_reset",
)  # fmt: skip


@cache
def naives_weights(job: str) -> list[dict[str, torch.Tensor]]:
    """The weights after the first and after the second task."""
    assembly, engine = make(*JOBS[job])
    after = []
    for index in range(2):
        learn_task(engine, assembly, index)
        after.append(weights(engine))
    return after


def are_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    # Low-rank updates have parameters of their own: compare those that both models have.
    return all(torch.equal(x, theirs[key]) for key, x in ours.items() if key in theirs)


@pytest.mark.parametrize(("name", "job"), SERVED)
def test_weights_differ_from_naives_and_terms_are_positive(name, job):
    assembly, engine = make(*JOBS[job], *STRATEGIES[name])
    first = learn_task(engine, assembly, 0)
    after_first = weights(engine)
    second = learn_task(engine, assembly, 1)
    assert all(0 < progress.loss < 100 for progress in first + second)
    assert all(x.isfinite().all() for x in weights(engine).values())
    if name in LATE:
        assert are_equal(after_first, naives_weights(job)[0])
    assert not are_equal(weights(engine), naives_weights(job)[1])
    assert are_equal(weights(engine), after_first) == (name == "frozen")
    # The share of projected steps may well be zero.
    assert name == "agem" or all(value > 0 for value in second[-1].terms.values())
    if name in PENALTIES:
        # Penalties are reported as they stand after the step, so even the first one is positive.
        assert all(progress.terms["penalty"] > 0 for progress in second)
        assert all((progress.terms["penalty"] > 0) == (name == "l2_init") for progress in first)


@pytest.mark.parametrize("job", [SPLIT, (*SPLIT, "task.scenario=task"), (*NANO, "adapter.reset=task")])
@pytest.mark.parametrize("name", ["joint", "cumulative", "replay", "der", "agem", "lwf"])
def test_what_reads_or_compares_rows_serves_limited_outputs_and_fast_states(name, job):
    assembly, engine = make(*job, *STRATEGIES[name])
    for index in range(3):
        assert all(0 < progress.loss < 100 for progress in learn_task(engine, assembly, index))


def test_a_coefficient_of_zero_is_naive_to_the_last_bit():
    expected = naives_weights("mlp")[1]
    for name in (*PENALTIES, "lwf"):
        _, engine = learned(*MLP, *STRATEGIES[name], "strategy.coefficient=0", tasks=2)
        assert are_equal(weights(engine), expected)


@pytest.mark.parametrize(
    ("name", "job", "arguments"),
    [("lwf", MLP, ["coefficient"]), ("distill", NANO, ["coefficient"]), ("der", MLP, ["alpha", "beta"])],
)
def test_a_term_of_weight_zero_is_zero(name, job, arguments):
    zeros = [f"strategy.{argument}=0" for argument in arguments]
    (full, one), (empty, other) = (learned(*job, *STRATEGIES[name], *more, tasks=2) for more in ([], zeros))
    assert full.recipe.strategy.terms()["penalty"] > 0 == empty.recipe.strategy.terms()["penalty"]
    assert slow_hash(one.learner.model) != slow_hash(other.learner.model)


DIVERGING = [
    *((MLP, *STRATEGIES[name], "strategy.coefficient=1e30") for name in (*PENALTIES, "lwf")),
    *((MLP, *STRATEGIES[name], "optimizer.lr=1e30") for name in ("continual_backprop", "redo", "lora_task-each")),
    (NANO, *STRATEGIES["distill"], "strategy.coefficient=1e30"),
    (MLP, *STRATEGIES["der"], "strategy.alpha=1e30"),
    (MLP, *STRATEGIES["olora"], "strategy.coefficient=1e38"),
    (MLP, *STRATEGIES["shrink_perturb"], "strategy.perturb=1e30"),
]


@pytest.mark.parametrize("job", DIVERGING, ids=lambda job: job[1])
def test_divergence_stops_the_run_with_task_and_step(job):
    setting, *strategy = job
    # Without the optimizer's normalisation and clipping, a huge penalty makes a huge step.
    steep = ("optimizer=sgd", "optimizer.lr=1", "optimizer.clip=null") if setting is NANO else ()
    assembly, engine = make(*setting, *steep, *strategy)
    index = 0

    def learn_all() -> None:
        nonlocal index
        for index in range(3):
            learn_task(engine, assembly, index)

    with pytest.raises(NonFiniteError, match=r" is (nan|inf) by step [1-6]$") as stop:
        learn_all()
    assert repr(assembly.stream.phases[index].name) in str(stop.value)


def test_fast_weights_that_are_not_finite_stop_a_merging_run():
    assembly, engine = make(*NANO, *STRATEGIES["consolidate-slowly"])
    engine.learner.fast["layers.0.mlp.memory"].fill_(float("nan"))
    phase = assembly.stream.phases[0]
    with pytest.raises(NonFiniteError, match=rf"'{phase.name}' is nan by step 1"):
        list(train(engine, phase, recipe=assembly.recipe, steps=1, report_every=1))
