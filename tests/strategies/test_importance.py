"""How importances are measured: Fisher information and MAS of a linear model, by hand.

Shapes: N rows, X inputs, V outputs.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from learning import learn_task
from strategy_jobs import LINEAR, NANO, SPLIT, STRATEGIES, learned, make, weights

from ttt.devices.one_device import OneDevice
from ttt.run.assemble import Assembly
from ttt.strategies.importance import fisher, importances, sampled_batches, squared_norm
from ttt.strategies.shared import generator


def first_rows(assembly: Assembly, samples: int):
    """x [N, X] and labels [N] of the first rows of the first task."""
    phase = assembly.stream.phases[0]
    batches = [phase.batch(step) for step in range(phase.steps)]
    x_NX = torch.cat([b.tokens_BT for b in batches]).flatten(0, 1)
    return x_NX[:samples], torch.cat([b.targets_BT for b in batches]).flatten()[:samples]


def information(*, per: str, labels: str, samples: int, job=LINEAR):
    """An assembly, its model, and the Fisher information of weight and bias."""
    assembly, engine = make(*job)
    score = fisher(per=per, labels=labels, generator=lambda number: generator(assembly.stream, number))
    batches = sampled_batches(assembly.stream.phases[0], samples=samples, per=per)
    head = engine.learner.model.head
    return assembly, engine.learner.model, importances(
        engine, batches, of=[head.weight, head.bias], score=score, power=2
    )  # fmt: skip


@pytest.mark.parametrize("labels", ["data", "predicted"])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_the_fisher_of_a_linear_model_by_hand(per, labels):
    """A row's gradient is (p - label) x^T. 20 rows are two batches of 8 and one of 4."""
    assembly, model, (of_weight, of_bias) = information(per=per, labels=labels, samples=20)
    x_NX, label_N = first_rows(assembly, 20)
    scores_NV = model(x_NX[:, None])[:, 0].detach()
    label_N = scores_NV.argmax(-1) if labels == "predicted" else label_N
    error_NV = scores_NV.softmax(-1) - torch.nn.functional.one_hot(label_N, scores_NV.shape[-1])
    gradient_NVX = error_NV[:, :, None] * x_NX[:, None]
    if per == "sample":
        expected = gradient_NVX.square().mean(0), error_NV.square().mean(0)
    else:
        expected = (
            torch.stack([len(g) * g.mean(0).square() for g in gradient_NVX.split(8)]).mean(0),
            torch.stack([len(g) * g.mean(0).square() for g in error_NV.split(8)]).mean(0),
        )
    torch.testing.assert_close(of_weight, expected[0])
    torch.testing.assert_close(of_bias, expected[1])


def test_labels_of_the_model_are_drawn_from_it():
    """On average over draws the diagonal of the bias is p (1 - p)."""
    job = (*LINEAR, "task.steps_per_task=60")
    assembly, model, (_, of_bias) = information(per="sample", labels="model", samples=480, job=job)
    p_NV = model(first_rows(assembly, 480)[0][:, None])[:, 0].detach().softmax(-1)
    exact = (p_NV * (1 - p_NV)).mean(0)
    assert float((of_bias - exact).norm() / exact.norm()) < 0.15
    # The draws belong to the stream: the same again, and others with another seed.
    again = information(per="sample", labels="model", samples=480, job=job)[2]
    assert torch.equal(of_bias, again[1])
    other = information(per="sample", labels="model", samples=480, job=(*job, "seed=1", "base.seed=0"))[2]
    assert not torch.equal(of_bias, other[1])


def test_more_samples_than_rows_are_all_rows():
    assembly, _, many = information(per="sample", labels="data", samples=10**6)
    batches = list(sampled_batches(assembly.stream.phases[0], samples=10**6, per="batch"))
    assert sum(len(x.tokens_BT) for x in batches) == 6 * 8
    assert torch.equal(many[0], information(per="sample", labels="data", samples=48)[2][0])


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_mas_of_a_linear_model_by_hand(per):
    """|d |Wx + b|^2 / d W| = 2 |o| |x|^T for a row."""
    assembly, engine = make(*LINEAR)
    head = engine.learner.model.head
    batches = sampled_batches(assembly.stream.phases[0], samples=16, per=per)
    of_weight, of_bias = importances(engine, batches, of=[head.weight, head.bias], score=squared_norm, power=1)
    x_NX, _ = first_rows(assembly, 16)
    scores_NV = engine.learner.model(x_NX[:, None])[:, 0].detach()
    size = 1 if per == "sample" else 8

    def mean_over_reads(gradient_N: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.mean(0).abs() for part in gradient_N.split(size)]).mean(0)

    torch.testing.assert_close(of_weight, mean_over_reads(2 * scores_NV[:, :, None] * x_NX[:, None]))
    torch.testing.assert_close(of_bias, mean_over_reads(2 * scores_NV))


@pytest.mark.parametrize("name", ["ewc", "mas"])
def test_outputs_that_do_not_compete_have_no_importance(name):
    job = (*SPLIT, "task.num_tasks=2", "task.scenario=task", *STRATEGIES[name])
    assembly, engine = learned(*job, tasks=1)
    strategy = assembly.recipe.strategy
    bias = next(i for i, p in enumerate(strategy.trained) if p is engine.learner.model.head.bias)
    competing = assembly.stream.phases[0].batch(0).outputs_BV[0].nonzero().flatten().tolist()
    assert strategy.importance[bias].nonzero().flatten().tolist() == competing


@pytest.mark.parametrize("name", ["ewc", "online_ewc", "mas"])
def test_measuring_importance_leaves_no_trace(name):
    assembly, engine = make(*NANO, *STRATEGIES[name])
    learn_task(engine, assembly, 0, ends=False)
    before, fast = weights(engine), {key: x.clone() for key, x in engine.learner.fast.items()}
    assert any(x.any() for x in fast.values())
    random = torch.get_rng_state()
    assembly.recipe.strategy.end_task(engine, 0)
    assert all(torch.equal(x, before[key]) for key, x in weights(engine).items())
    assert all(torch.equal(x, fast[key]) for key, x in engine.learner.fast.items())
    assert all(parameter.grad is None for parameter in engine.learner.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert engine.learner.training


class Member(OneDevice):
    """One of several devices, alone: it keeps what it would have sent."""

    def __init__(self, rank: int, *, of: int) -> None:
        super().__init__(torch.device("cpu"), precision="32-true")
        self.global_rank, self.world_size, self.sent = rank, of, []

    def all_reduce(self, x: torch.Tensor, *, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        self.sent.append(x)
        return x


def test_devices_share_the_rows_that_importance_is_measured_on():
    """What three devices send adds up to what one device measures."""
    assembly, engine = make(*LINEAR)
    score = fisher(per="sample", labels="model", generator=lambda number: generator(assembly.stream, number))
    parameters = list(engine.learner.model.parameters())

    def measure(engine):
        batches = sampled_batches(assembly.stream.phases[0], samples=19, per="sample")
        return importances(engine, batches, of=parameters, score=score, power=2)

    whole = measure(engine)
    members = [Member(rank, of=3) for rank in range(3)]
    for member in members:
        measure(replace(engine, fabric=member))
    assert [float(member.sent[0]) for member in members] == [7, 6, 6]
    for place, importance in enumerate(whole):
        torch.testing.assert_close(sum(member.sent[1 + place] for member in members) / 19, importance)
