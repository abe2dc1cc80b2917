"""replay, der and agem: which rows are read again, and what they do to the loss and to the step.

Shapes: B rows, T time, V outputs.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from learning import begin_task, learn_task
from strategy_jobs import MLP, NANO, STRATEGIES, TOKENS, OneBatch, learned, make

from ttt.learner import cross_entropy
from ttt.strategies.agem import project
from ttt.strategies.der import packed, squared_distance
from ttt.strategies.memory import padded
from ttt.stream import IGNORE, Batch
from ttt.training.train import loss_of, train


def phases_of(phases, batch: Batch) -> list[int]:
    """The phase that each row of a batch comes from."""
    origins = {row.numpy().tobytes(): i for i, p in enumerate(phases) for s in range(p.steps) for row in p.batch(s)[0]}
    return [origins[row.numpy().tobytes()] for row in batch.tokens_BT]


@pytest.mark.parametrize("balance", ["reservoir", "task", "class"])
def test_rows_in_memory_are_rows_of_the_stream_and_those_drawn_are_of_earlier_tasks(balance):
    assembly, engine = make(
        *MLP, "strategy=replay", "strategy.size=30", f"strategy.balance={balance}", "strategy.rows=5",
        "task.steps_per_task=40",
    )  # fmt: skip
    strategy, phases = assembly.recipe.strategy, assembly.stream.phases
    for index, phase in enumerate(phases):
        begin_task(engine, assembly, index)
        for step in range(phase.steps):
            rows = strategy.memory(phase.batch(step), step=step)
            assert (rows is None) == (index == 0)
        if index:
            assert rows.tokens_BT.shape == (5, 1, 64)
            # All old rows are still there: the 320 rows of this task have taken no place from them.
            drawn = strategy.stored.draw(2000)
            assert len(drawn["tokens"].unique(dim=0)) == 30
            everything = Batch(drawn["tokens"], *3 * [drawn["targets"]])
            assert set(phases_of(phases, everything)) == set(range(index))
        strategy.end_task(engine, index)
    stored = strategy.stored.columns
    tasks = Counter(phases_of(phases, Batch(stored["tokens"], *3 * [stored["targets"]])))
    assert sum(tasks.values()) == 30
    if balance == "task":
        assert set(tasks.values()) == {10}
    if balance == "class":
        assert set(Counter(stored["targets"].flatten().tolist()).values()) == {3}


def test_where_no_task_is_announced_all_that_is_stored_is_drawn():
    assembly, _ = make(*TOKENS, "task=drift-sequence", "strategy=replay")
    phase = assembly.stream.phases[0]
    assert not phase.announced
    drawn = [assembly.recipe.strategy.memory(phase.batch(step), step=step) for step in range(3)]
    assert [rows is None for rows in drawn] == [True, False, False]


def test_replay_is_the_loss_of_both_together_and_leaves_the_fast_state_to_its_own_rows():
    job = (*NANO, "adapter.carry=lane")
    (_, naive), (assembly, engine) = make(*job), learned(*job, "strategy=replay", tasks=1)
    naive.learner.load_state_dict(engine.learner.state_dict())
    naive.learner.fast = {name: x.clone() for name, x in engine.learner.fast.items()}
    begin_task(engine, assembly, 1)
    batch, strategy = assembly.stream.phases[1].batch(0), assembly.recipe.strategy
    drawn: list[Batch] = []
    memory = strategy.memory
    strategy.memory = lambda batch, *, step: drawn.append(memory(batch, step=step)) or drawn[-1]
    loss = loss_of(engine.learner, assembly.recipe, batch, step=0)
    new_BTV, _ = naive.learner(batch, naive.learner.fast)
    old_BTV, _ = naive.learner(drawn[0], naive.learner.adapter.initial())
    expected = cross_entropy(torch.cat([new_BTV, old_BTV]), Batch.stack([batch, drawn[0]]), reduction="mean")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # The state that is carried on is the one that the task's own rows leave.
    loss_of(naive.learner, make(*job)[0].recipe, batch, step=0)
    for name, x in naive.learner.fast.items():
        torch.testing.assert_close(engine.learner.fast[name], x)


def test_replay_in_parts_is_replay():
    losses = []
    for parts in (1, 2):
        assembly, engine = make(*TOKENS, "strategy=replay", f"trainer.accumulate={parts}")
        losses.append([p.loss for index in range(3) for p in learn_task(engine, assembly, index)])
    assert np.array(losses[0]) == pytest.approx(np.array(losses[1]), rel=1e-4)


# der


def test_der_stores_the_logits_of_scored_tokens_as_they_were():
    assembly, engine = make(*TOKENS, "strategy=der", "strategy.size=100", "optimizer.lr=1")
    phase, strategy = assembly.stream.phases[0], assembly.recipe.strategy
    begin_task(engine, assembly, 0)
    then = []
    for step in range(3):
        batch = phase.batch(step)
        logits_BTV, _ = engine.learner(batch, {})
        then += [logits_BTV[b][batch.targets_BT[b] != IGNORE].detach() for b in range(2)]
        # A rate of 1: the logits of the next step are quite different ones.
        list(train(engine, OneBatch(batch), recipe=assembly.recipe, steps=1, report_every=1))
    strategy.end_task(engine, 0)
    assert strategy.stored.ready == 6
    for row, logits_SV in enumerate(then):
        stored_SV = strategy.stored.columns["logits"][row]
        torch.testing.assert_close(stored_SV[: len(logits_SV)], logits_SV)
        assert not stored_SV[len(logits_SV) :].any()


def test_squared_distance_counts_scored_tokens_and_outputs_that_compete():
    torch.manual_seed(0)
    now_BTV, then_BTV = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    targets_BT = torch.tensor([[1, IGNORE, 2, IGNORE], [IGNORE] * 4, [0, 1, 2, IGNORE]])
    outputs_BV = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 1], [0, 1, 1, 1, 1]], dtype=torch.bool)
    stored_BSV = padded(packed(then_BTV, targets_BT), 4)
    for outputs in (None, outputs_BV):
        squares = [
            float((now_BTV[b, t, v] - then_BTV[b, t, v]) ** 2)
            for b in range(3) for t in range(4) for v in range(5)
            if targets_BT[b, t] != IGNORE and (outputs is None or outputs[b, v])
        ]  # fmt: skip
        batch = Batch(targets_BT, targets_BT, targets_BT, outputs)
        assert float(squared_distance(now_BTV, stored_BSV, batch)) == pytest.approx(np.mean(squares))


def test_der_is_three_means():
    assembly, engine = learned(
        *MLP, "strategy=der", "strategy.alpha=0.3", "strategy.beta=0.7", "strategy.rows=5", tasks=1
    )
    begin_task(engine, assembly, 1)
    batch, strategy = assembly.stream.phases[1].batch(0), assembly.recipe.strategy
    loss = loss_of(engine.learner, assembly.recipe, batch, step=0)
    rows, then_BSV = strategy._again
    new, again = (engine.learner(x, {})[0].flatten(0, 1) for x in (batch, rows))
    expected = F.cross_entropy(new, batch.targets_BT.flatten())
    expected = expected + 0.3 * F.mse_loss(again, then_BSV.flatten(0, 1))
    expected = expected + 0.7 * F.cross_entropy(again, rows.targets_BT.flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # Rows of the first task, with the logits of that time: not those of now.
    assert set(phases_of(assembly.stream.phases, rows)) == {0}
    assert not torch.allclose(again, then_BSV.flatten(0, 1), atol=1e-3)


# agem


def test_a_projection_ends_at_a_right_angle_and_leaves_others_alone():
    gradient = [torch.tensor([1.0, 0.0]), torch.tensor([2.0])]
    reference = [torch.tensor([-3.0, 1.0]), torch.tensor([0.5])]
    # g . r = -2, r . r = 10.25
    assert project(gradient, reference)
    expected = [torch.tensor([1 - 6 / 10.25, 2 / 10.25]), torch.tensor([2 + 1 / 10.25])]
    torch.testing.assert_close(gradient, expected)
    assert sum(float((g * r).sum()) for g, r in zip(gradient, reference, strict=True)) == pytest.approx(0, abs=1e-6)
    before = [x.clone() for x in gradient]
    assert not project(gradient, [x.clone() for x in gradient])
    torch.testing.assert_close(gradient, before)


def test_agem_steps_do_not_point_against_memory_and_touch_no_fast_state():
    assembly, engine = learned(*NANO, *STRATEGIES["agem"], "task.steps_per_task=6", tasks=1)
    begin_task(engine, assembly, 1)
    learner, strategy = engine.learner, assembly.recipe.strategy
    drawn: list[Batch] = []
    draw = strategy.draw
    strategy.draw = lambda: drawn.append(draw()) or drawn[-1]
    trained, turned = [p for p in engine.order if p.requires_grad], 0
    for step in range(6):
        learner.zero_grad()
        loss_of(learner, assembly.recipe, assembly.stream.phases[1].batch(step), step=step).backward()
        fast = {name: x.clone() for name, x in learner.fast.items()}
        plain = torch.cat([p.grad.flatten() for p in trained])
        strategy.gradients(engine)
        assert all(torch.equal(x, learner.fast[name]) for name, x in fast.items())
        loss = cross_entropy(learner(drawn[-1], learner.adapter.initial())[0], drawn[-1], reduction="mean")
        old = torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained, materialize_grads=True)])
        now = torch.cat([p.grad.flatten() for p in trained])
        is_against = float(plain @ old) < 0
        turned += is_against
        assert torch.equal(now, plain) != is_against
        assert float(now @ old) >= -1e-4 * float(old @ old)
    assert strategy.terms() == {"projected": pytest.approx(turned / 6)}
