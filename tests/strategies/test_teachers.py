"""lwf and distill: whose answers are compared, on which outputs, and that only the student learns.

Shapes: B rows, T time, V outputs, N scored tokens, H heads.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from learning import begin_task, learn_task
from strategy_jobs import NANO, SPLIT, learned, make

from ttt.learner import cross_entropy
from ttt.strategies.teacher import distillation_loss, teacher_weights, weights_of
from ttt.stream import IGNORE
from ttt.training.train import train


def test_a_distillation_loss_is_the_mean_over_tokens_and_the_sum_over_heads():
    torch.manual_seed(0)
    old_NV, new_NV = torch.randn(4, 6), torch.randn(4, 6, requires_grad=True)
    heads_HV = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]], dtype=torch.bool)

    def by_hand(heads: list[list[int]], temperature: float) -> float:
        total = 0.0
        for n in range(4):
            for head in heads:
                p, q = (F.softmax(x.detach()[n, head] / temperature, -1) for x in (old_NV, new_NV))
                total += float((p * (p / q).log()).sum())
        return temperature**2 * total / 4

    for heads, mask in (([[0, 1], [2, 3, 4]], heads_HV), ([list(range(6))], None)):
        for temperature in (1.0, 2.0):
            loss = distillation_loss(old_NV, new_NV, temperature=temperature, heads_HV=mask)
            assert loss.item() == pytest.approx(by_hand(heads, temperature), rel=1e-5)
            (gradient,) = torch.autograd.grad(loss, new_NV)
            assert gradient.isfinite().all()
            # The last output is in no head.
            assert mask is None or not gradient[:, 5].any()
    same = distillation_loss(old_NV, old_NV, temperature=2.0, heads_HV=heads_HV)
    assert float(same) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_teacher_answers_by_its_own_weights_and_the_graph_of_the_student_stays(precision):
    """With bf16-mixed too, where autocast caches parameters: a teacher could read the student's."""
    assembly, engine = make(*NANO, f"trainer.precision={precision}")
    learner, batch = engine.learner, assembly.stream.tasks[0].batch(0)
    old = weights_of(learner.model)
    with engine.fabric.autocast(), torch.no_grad():
        before, _ = learner(batch, learner.adapter.initial())
    learn_task(engine, assembly, 0)
    now, gradients = weights_of(learner.model), []
    for has_teacher in (False, True):
        learner.zero_grad()
        with engine.fabric.autocast():
            logits_BTV, _ = learner(batch, learner.adapter.initial())
            if has_teacher:
                with teacher_weights(learner.model, old):
                    taught, _ = learner(batch, learner.adapter.initial())
                again, _ = learner(batch, learner.adapter.initial())
            cross_entropy(logits_BTV, batch, reduction="mean").backward()
        gradients.append([p.grad.clone() for p in learner.parameters() if p.grad is not None])
    assert torch.equal(taught, before)
    assert torch.equal(again, logits_BTV)
    assert not torch.equal(taught, logits_BTV)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(torch.equal(x, now[name]) for name, x in weights_of(learner.model).items())


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_lwf_compares_outputs_that_are_old_in_the_scenario(scenario):
    """Against a teacher that is a model of its own, and outputs picked by hand."""
    job = (*SPLIT, f"task.scenario={scenario}")
    assembly, engine = learned(*job, "strategy=lwf", "strategy.temperature=3", tasks=2)
    learner, twin = engine.learner, make(*job)[1].learner
    twin.load_state_dict(learner.state_dict())
    begin_task(engine, assembly, 2)
    (progress,) = train(engine, assembly.stream.phases[2], recipe=assembly.recipe, steps=2, report_every=2)
    assert progress.terms["penalty"] > 0
    batch = assembly.stream.phases[2].batch(2)
    logits_BTV, _ = learner(batch, {})
    penalty = assembly.recipe.strategy.extra(learner, batch, logits_BTV, own=len(batch.tokens_BT))
    labels = [task.evaluation().targets_BT.unique().tolist() for task in assembly.stream.tasks]
    heads = {"task": labels[:2], "class": [sorted(labels[0] + labels[1])], "domain": [labels[0]]}[scenario]
    assert sum(len(head) for head in heads) == {"task": 4, "class": 4, "domain": 2}[scenario]
    expected = 0.0
    for head in heads:
        with torch.no_grad():
            log_p = F.log_softmax(twin(batch, {})[0][:, 0, head] / 3, -1)
        log_q = F.log_softmax(logits_BTV[:, 0, head] / 3, -1)
        expected = expected + 9 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-4)
    head = learner.model.head.weight
    ours, theirs = (torch.autograd.grad(x, head, retain_graph=True)[0] for x in (penalty, expected))
    torch.testing.assert_close(ours, theirs)


def test_distill_moves_the_slow_answer_towards_the_fast_one():
    assembly, engine = learned(*NANO, "adapter.step=1.0", "strategy=distill", "strategy.temperature=2", tasks=1)
    learner, batch = engine.learner, assembly.stream.phases[1].batch(0)
    fast = {name: x.clone() for name, x in learner.fast.items()}
    fast_BTV, _ = learner(batch, learner.fast)
    penalty = assembly.recipe.strategy.extra(learner, batch, fast_BTV, own=len(batch.tokens_BT))
    assert all(torch.equal(x, learner.fast[name]) for name, x in fast.items())
    slow_BTV, _ = learner(batch, learner.adapter.initial(), write=False)
    scored = batch.targets_BT != IGNORE
    p, q = F.softmax(fast_BTV.detach()[scored] / 2, -1), F.softmax(slow_BTV[scored] / 2, -1)
    expected = 4 * (p * (p / q).log()).sum(-1).mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-4) != 0
    # The fast answer is a target: no gradient goes through it.
    assert torch.autograd.grad(penalty, fast_BTV, allow_unused=True) == (None,)
    ours, theirs = (torch.autograd.grad(x, engine.order[0])[0] for x in (penalty, expected))
    torch.testing.assert_close(ours, theirs)
