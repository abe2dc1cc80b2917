"""lora_task and olora: what an update adds, who reads with it, and how updates are kept apart."""

from __future__ import annotations

import pytest
import torch
from learning import begin_task, learn_task
from strategy_jobs import JOBS, MLP, NANO, STRATEGIES, learned, make, read, weights
from torch import Tensor

from ttt.evaluation.evaluate import evaluate
from ttt.strategies.lora import LowRank

EACH = STRATEGIES["lora_task-each"]
BOTH_JOBS = pytest.mark.parametrize("job", JOBS)


@BOTH_JOBS
@pytest.mark.parametrize("strategy", ["lora_task", "olora"])
def test_an_update_is_a_matrix_added_to_w0_and_all_else_is_frozen(strategy, job):
    assembly, engine = make(*JOBS[job], *STRATEGIES[strategy], "strategy.alpha=3")
    _, plain = make(*JOBS[job])
    batch, start = assembly.stream.tasks[0].evaluation(), weights(plain)
    assert torch.equal(read(engine, batch), read(plain, batch))
    learn_task(engine, assembly, 0, ends=False)
    assert not torch.allclose(read(engine, batch), read(plain, batch), atol=1e-4)
    for name, x in start.items():
        assert torch.equal(x, weights(engine)[name])
    modules, parameters = dict(engine.learner.model.named_modules()), dict(plain.learner.model.named_parameters())
    updates = {name.removesuffix(".lora"): m for name, m in modules.items() if isinstance(m, LowRank)}
    linear = [n for n, m in plain.learner.model.named_modules() if isinstance(getattr(m, "weight", None), Tensor)]
    assert set(updates) == {n for n in linear if "norm" not in n and "embed" not in n}
    # Written into the matrices of a plain model, the updates give the same answers.
    with torch.no_grad():
        for name, update in updates.items():
            assert update.b_OR.any()
            parameters[f"{name}.weight"].add_(3 / 2 * update.b_OR @ update.a_RI)
    torch.testing.assert_close(read(engine, batch), read(plain, batch), atol=1e-5, rtol=1e-4)


def test_layers_by_name():
    _, engine = make(*NANO, *EACH, "strategy.layers=[down_proj,layers.1.self_attn]")
    names = {name.rpartition(".lora")[0] for name, p in engine.learner.model.named_parameters() if p.requires_grad}
    assert names == {"layers.0.mlp.down_proj", "layers.1.mlp.down_proj"} | {
        f"layers.1.self_attn.{x}" for x in ("qkv_proj", "o_proj")
    }


@BOTH_JOBS
def test_one_update_a_task_forgets_nothing_where_the_test_tells_the_task(job):
    assembly, engine = make(*JOBS[job], *EACH)
    batches, recipe = [task.evaluation() for task in assembly.stream.tasks], assembly.recipe
    base = evaluate(engine, batches, recipe=recipe, tasks=[0, 1, 2])
    after = []
    for index in range(3):
        learn_task(engine, assembly, index)
        after.append(evaluate(engine, batches, recipe=recipe, tasks=[0, 1, 2]))
    for mode in ("slow", "fast"):
        loss = [row[mode]["loss"] for row in after]
        # To the last bit: each task as when it was learned, and before that as in the base.
        assert [loss[2][j] for j in range(3)] == [loss[j][j] for j in range(3)]
        assert loss[0][1:] == base[mode]["loss"][1:]
        assert loss[0][0] < base[mode]["loss"][0]
    # The base is read with W0 alone, and whoever is not told the task reads with the last update.
    nothing = evaluate(engine, batches, recipe=recipe, tasks=[None] * 3)
    assert nothing["slow"]["loss"] == base["slow"]["loss"]
    untold = evaluate(engine, batches, recipe=recipe)["slow"]["loss"]
    assert untold[0] != after[2]["slow"]["loss"][0]
    assert untold[2] == after[2]["slow"]["loss"][2]


def test_a_shared_update_is_read_whatever_the_task():
    assembly, engine = learned(*MLP, *STRATEGIES["lora_task"], tasks=1)
    batches = [task.evaluation() for task in assembly.stream.tasks]
    losses = [
        evaluate(engine, batches, recipe=assembly.recipe, tasks=tasks)["slow"]["loss"]
        for tasks in ([], [None] * 3, [0, 1, 2])
    ]
    assert losses[0] == losses[1] == losses[2]


def test_a_task_that_comes_back_goes_on_from_its_update():
    assembly, engine = learned(*MLP, *EACH, tasks=1)
    strategy = assembly.recipe.strategy
    first = [update.a_RI.detach().clone() for update in strategy.updates]
    learn_task(engine, assembly, 1)
    assert not torch.equal(strategy.updates[0].a_RI, first[0])
    begin_task(engine, assembly, 0)
    assert all(torch.equal(update.a_RI, a_RI) for update, a_RI in zip(strategy.updates, first, strict=True))
    assert not engine.optimizer.state


def test_one_update_for_the_whole_stream_is_learned_again_as_weights_are():
    again = ("strategy=lora_task", "eval.anytime=1", "eval.savings=true")
    assembly, _ = make(*MLP, *again)
    assert assembly.plan.savings
    # Updates of each task forget nothing that could be learned again, alone or as one of two.
    for pair in (
        [*again, "strategy.per=task"],
        [*again[1:], "strategy=naive", "strategy@also=lora_task", "also.per=task"],
    ):
        with pytest.raises(ValueError, match=r"eval\.savings=true"):
            make(*MLP, *pair)


def test_olora_adds_the_gradient_of_its_penalty():
    assembly, engine = learned(*MLP, *STRATEGIES["olora"], "strategy.coefficient=0.01", tasks=1)
    strategy = assembly.recipe.strategy
    first = [x.clone() for x in strategy._earlier]
    learn_task(engine, assembly, 1)
    assert all(torch.equal(rows_XI[:2], x) for rows_XI, x in zip(strategy._earlier, first, strict=True))
    # Against autograd, at a random A.
    for update in strategy.updates:
        update.a_RI.data.normal_()
        update.a_RI.grad = torch.zeros_like(update.a_RI)
    value = 0.01 * sum(
        (rows_XI @ update.a_RI.T).abs().sum()
        for rows_XI, update in zip(strategy._earlier, strategy.updates, strict=True)
    )
    expected = torch.autograd.grad(value, [update.a_RI for update in strategy.updates])
    strategy.gradients(engine)
    for update, gradient in zip(strategy.updates, expected, strict=True):
        torch.testing.assert_close(update.a_RI.grad, gradient)
    assert strategy.penalty() == pytest.approx(float(value.detach()), rel=1e-5)


def test_olora_pushes_updates_apart():
    overlaps = []
    for coefficient in ("0", "0.1"):
        job = (*STRATEGIES["olora"], f"strategy.coefficient={coefficient}", "task.steps_per_task=60")
        assembly, _ = learned(*MLP, *job, tasks=2)
        overlaps.append(sum(float((x[:2] @ x[2:].T).abs().sum()) for x in assembly.recipe.strategy._earlier))
    assert overlaps[1] < overlaps[0] / 2


@BOTH_JOBS
def test_a_finished_update_of_olora_stays_in_w0(job):
    assembly, engine = make(*JOBS[job], *STRATEGIES["olora"])
    learn_task(engine, assembly, 0, ends=False)
    batch, carried = assembly.stream.tasks[0].evaluation(), engine.shared_fast()
    before = read(engine, batch, carried)
    assembly.recipe.strategy.end_task(engine, 0)
    torch.testing.assert_close(read(engine, batch, carried), before, atol=1e-5, rtol=1e-4)
    assert not any(update.b_OR.any() for update in assembly.recipe.strategy.updates)
    assert not engine.optimizer.state
