"""l2, l2_init, ewc, online_ewc, si and mas: penalties against closed forms, and how they pull."""

from __future__ import annotations

import pytest
import torch
from learning import begin_task, learn_task
from strategy_jobs import JOBS, LINEAR, MLP, PENALTIES, STRATEGIES, OneBatch, data_gradients, learned, make, weights
from torch import Tensor

from ttt.training.train import train


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("name", ["ewc", "online_ewc", "si", "mas"])
def test_importances_are_not_zero_and_anchors_are_copies(name, job):
    assembly, engine = learned(*JOBS[job], *STRATEGIES[name], tasks=2)
    strategy = assembly.recipe.strategy
    for importance, anchor, parameter in zip(strategy.importance, strategy.anchor, strategy.trained, strict=True):
        assert (importance >= 0).all()
        assert anchor.data_ptr() != parameter.data_ptr()
    names = {id(p): name for name, p in engine.learner.model.named_parameters()}
    totals = {names[id(p)]: float(x.sum()) for p, x in zip(strategy.trained, strategy.importance, strict=True)}
    if job == "mlp":
        assert all(total > 0 for total in totals.values())
    else:
        # The fast weights took part: without writes nothing depends on their step size.
        assert totals["layers.0.mlp.down_proj.log_step"] > 0


@pytest.mark.parametrize("name", PENALTIES)
def test_the_larger_the_coefficient_the_nearer_to_the_anchor(name):
    scale = {"l2": 0.05, "l2_init": 0.05, "si": 10, "mas": 0.02}.get(name, 2)
    distances = []
    for coefficient in (0.0, 1.0, 20.0):
        job = (*MLP, *STRATEGIES[name], f"strategy.coefficient={coefficient * scale}", "optimizer.lr=0.02")
        assembly, engine = learned(*job, tasks=1)
        strategy = assembly.recipe.strategy
        anchor = torch.cat([x.flatten() for x in strategy.anchor])
        importance = strategy.importance or [torch.ones_like(p) for p in strategy.trained]
        weight = torch.cat([x.flatten() for x in importance])
        learn_task(engine, assembly, 1, ends=False)
        now = torch.cat([p.detach().flatten() for p in strategy.trained])
        distances.append(float((weight / weight.mean() * (now - anchor).square()).sum()))
    assert distances[0] > distances[1] > distances[2] > 0


def test_a_step_of_l2_by_hand():
    assembly, engine = learned(*MLP, *STRATEGIES["l2"], "task.steps_per_task=1", tasks=1)
    anchor = weights(engine)
    # The second task starts at the anchor, where nothing pulls; so look at the third.
    learn_task(engine, assembly, 1, ends=False)
    before, gradient = weights(engine), data_gradients(engine, assembly.stream.phases[2].batch(0))
    learn_task(engine, assembly, 2, ends=False)
    for name, now in weights(engine).items():
        expected = before[name] - 0.1 * (gradient[name] + 2 * 0.3 * (before[name] - anchor[name]))
        torch.testing.assert_close(now, expected)


def test_a_step_of_l2_init_by_hand():
    assembly, engine = make(*MLP, *STRATEGIES["l2_init"], "task.steps_per_task=1")
    start = weights(engine)
    learn_task(engine, assembly, 0)
    before, gradient = weights(engine), data_gradients(engine, assembly.stream.phases[1].batch(0))
    (progress,) = learn_task(engine, assembly, 1)
    for name, now in weights(engine).items():
        expected = before[name] - 0.1 * (gradient[name] + 2 * 0.3 * (before[name] - start[name]))
        torch.testing.assert_close(now, expected)
    distance = sum((now - start[name]).square().sum() for name, now in weights(engine).items())
    assert progress.terms["penalty"] == pytest.approx(0.3 * float(distance))


def test_ewc_with_three_anchors_is_the_sum_of_three_penalties():
    """Value and gradient of the merged quadratic against those of three that are kept apart."""
    assembly, engine = make(*MLP, *STRATEGIES["ewc"], "optimizer.lr=0.3")
    strategy, separate, sizes = assembly.recipe.strategy, [], []
    for index in range(3):
        learn_task(engine, assembly, index, ends=False)
        separate.append((strategy.information(engine, index), [p.detach().clone() for p in strategy.trained]))
        strategy.end_task(engine, index)
        sizes.append(sum(x.numel() for x in strategy.state().values()))
    # The strategy's memory does not grow with the tasks.
    assert sizes[0] == sizes[2]
    with torch.no_grad():
        for parameter in strategy.trained:
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    copies = [p.detach().double().requires_grad_() for p in strategy.trained]
    total = sum(
        (importance.double() * (p - anchor.double()).square()).sum()
        for information, anchors in separate
        for p, importance, anchor in zip(copies, information, anchors, strict=True)
    )
    (5.0 * total).backward()
    assert strategy.penalty() == pytest.approx(5.0 * float(total.detach()), rel=1e-5)
    # No gradient of the data: the penalty must still add its own.
    assert all(parameter.grad is None for parameter in strategy.trained)
    strategy.gradients(engine)
    for parameter, expected in zip(strategy.trained, copies, strict=True):
        torch.testing.assert_close(parameter.grad.double(), expected.grad, rtol=1e-4, atol=1e-6)


def test_online_ewc_fades_and_its_anchor_is_the_latest():
    assembly, engine = make(*MLP, *STRATEGIES["online_ewc"])
    strategy, running = assembly.recipe.strategy, None
    for index in range(3):
        learn_task(engine, assembly, index, ends=False)
        new = strategy.information(engine, index)
        running = new if running is None else [0.7 * old + x for old, x in zip(running, new, strict=True)]
        strategy.end_task(engine, index)
        for i, parameter in enumerate(strategy.trained):
            assert torch.equal(strategy.anchor[i], parameter)
            torch.testing.assert_close(strategy.importance[i], running[i])


def test_mas_sums_over_tasks():
    assembly, engine = learned(*MLP, *STRATEGIES["mas"], tasks=1)
    strategy = assembly.recipe.strategy
    before = [x.clone() for x in strategy.importance]
    learn_task(engine, assembly, 1)
    assert all((now >= x).all() and (now > x).any() for now, x in zip(strategy.importance, before, strict=True))


@pytest.mark.parametrize("clip", ["null", "0.01"])
def test_si_by_hand(clip):
    """The path takes the data's gradient, before penalty and clipping, and the whole step."""
    typed = ["strategy.xi=0.02", "optimizer.lr=0.3", "optimizer.momentum=0.9", f"optimizer.clip={clip}"]
    assembly, engine = make(*LINEAR, *STRATEGIES["si"], *typed)
    strategy, omega = assembly.recipe.strategy, {name: torch.zeros_like(x) for name, x in weights(engine).items()}
    names = {id(p): name for name, p in engine.learner.model.named_parameters()}
    for index, phase in enumerate(assembly.stream.phases):
        start, path = weights(engine), {name: torch.zeros_like(x) for name, x in omega.items()}
        begin_task(engine, assembly, index)
        for step in range(phase.steps):
            before, gradient = weights(engine), data_gradients(engine, phase.batch(step))
            task = OneBatch(phase.batch(step))
            (progress,) = train(engine, task, recipe=assembly.recipe, steps=1, report_every=1)
            for name, now in weights(engine).items():
                path[name] -= gradient[name] * (now - before[name])
            assert progress.terms["penalty"] == pytest.approx(30 * distance(engine, start, omega), rel=1e-4)
        strategy.end_task(engine, index)
        for name, now in weights(engine).items():
            omega[name] += path[name].clamp_min(0) / ((now - start[name]).square() + 0.02)
        for parameter, importance in zip(strategy.trained, strategy.importance, strict=True):
            torch.testing.assert_close(importance, omega[names[id(parameter)]], rtol=1e-3, atol=1e-7)
    # Momentum at times goes uphill: the test has seen paths that must not count.
    assert any((x < 0).any() for x in path.values())


def distance(engine, start: dict[str, Tensor], omega: dict[str, Tensor]) -> float:
    return float(sum((omega[n] * (x - start[n]).square()).sum() for n, x in weights(engine).items()))
