"""consolidate: what moves from fast into slow weights, and gradients that stop at writes."""

from __future__ import annotations

import pytest
import torch
from learning import learn_task
from strategy_jobs import NANO, STRATEGIES, make, read, weights

from ttt.adapters.base import additive
from ttt.config.identity import base_adapter
from ttt.strategies.consolidate import truncated
from ttt.training.train import loss_of, train


@pytest.mark.parametrize("carry", ["mean", "lane"])
def test_merging_all_of_the_state_leaves_what_the_model_computes(carry):
    assembly, engine = make(*NANO, "strategy=consolidate", "strategy.share=1", f"adapter.carry={carry}")
    learn_task(engine, assembly, 0, ends=False)
    batch, carried = assembly.stream.tasks[1].evaluation(), engine.shared_fast()
    before, plain = read(engine, batch, carried), read(engine, batch)
    assert (before - plain).abs().max() > 1e-3
    lanes = {key: x.clone() for key, x in engine.learner.fast.items()}
    assembly.recipe.strategy.end_task(engine, 0)
    torch.testing.assert_close(read(engine, batch), before)
    torch.testing.assert_close(read(engine, batch, engine.shared_fast()), before)
    for key, x in engine.learner.fast.items():
        assert torch.equal(x, lanes[key] - lanes[key].mean(0, keepdim=True))
        assert bool(x.any()) == (carry == "lane")


def test_a_share_of_some_rank_moves_and_the_rest_stays():
    assembly, engine = make(*NANO, "strategy=consolidate", "strategy.share=0.25", "strategy.rank=2")
    learn_task(engine, assembly, 0, ends=False)
    before, fast = weights(engine), dict(engine.learner.fast)
    assembly.recipe.strategy.end_task(engine, 0)
    moved, whole = 0.0, 0.0
    for weight, key in additive(engine.learner.adapter):
        name = key.replace("memory", "down_proj.weight")
        u, s, v = torch.svd(fast[key][0])
        part = 0.25 * u[:, :2] @ torch.diag(s[:2]) @ v[:, :2].T
        torch.testing.assert_close(weight.detach() - before[name], part, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(fast[key] - engine.learner.fast[key], part[None], atol=1e-6, rtol=1e-4)
        moved, whole = moved + float(part.square().sum()), whole + float(before[name].square().sum())
    assert assembly.recipe.strategy.terms()["merged"] == pytest.approx((moved / whole) ** 0.5, rel=1e-3)
    changed = {name for name, x in weights(engine).items() if not torch.equal(x, before[name])}
    assert changed == {f"layers.{i}.mlp.down_proj.weight" for i in range(2)}


def test_a_truncated_matrix_is_the_nearest_of_its_rank():
    s_DF = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    sigma = torch.linalg.svdvals(s_DF)
    for rank in range(1, 7):
        near_DF = truncated(s_DF, rank=rank)
        assert torch.linalg.matrix_rank(near_DF) == min(rank, 5)
        torch.testing.assert_close((s_DF - near_DF).square().sum(), sigma[rank:].square().sum(), atol=1e-5, rtol=1e-5)
    assert truncated(s_DF, rank=None) is s_DF


def test_merging_at_each_step_needs_no_boundaries():
    assembly, engine = make(*NANO, *STRATEGIES["consolidate-slowly"], "task=drift-sequence")
    phase, before = assembly.stream.phases[0], weights(engine)
    terms = [p.terms for p in train(engine, phase, recipe=assembly.recipe, steps=phase.steps, report_every=1)]
    assert all(t["merged"] > 0 for t in terms)
    assert not torch.equal(weights(engine)["layers.0.mlp.down_proj.weight"], before["layers.0.mlp.down_proj.weight"])


# adapter.through_writes=false: writes count as constants in the gradient of slow weights.


def test_gradients_through_reads_alone_leave_out_what_makes_the_writes():
    """The forward pass is the same; what makes the writes gets no gradient."""
    results = {}
    for through in ("true", "false"):
        assembly, engine = make(*NANO, f"adapter.through_writes={through}")
        learner, batch = engine.learner, assembly.stream.phases[0].batch(0)
        engine.fabric.backward(loss := loss_of(learner, assembly.recipe, batch, step=0))
        gradients = {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}
        results[through] = (float(loss.detach()), learner.fast, gradients)
    (loss, fast, whole), (same, same_fast, part) = results["true"], results["false"]
    assert loss == same
    assert all(torch.equal(x, same_fast[key]) for key, x in fast.items())
    makers = {f"layers.{i}.mlp.down_proj.{x}" for i in range(2) for x in ("log_step", "conv_OD", "target_DD")}
    assert set(whole) - set(part) == makers
    assert not torch.equal(whole["layers.0.mlp.up_proj.weight"], part["layers.0.mlp.up_proj.weight"])
    torch.testing.assert_close(whole["norm.weight"], part["norm.weight"])


@pytest.mark.parametrize("rule", [("adapter.rule=delta",), ("adapter.centre=true",), ("adapter.source=hidden",)])
def test_gradients_through_reads_are_those_of_constant_writes(rule):
    """Writes handed in as numbers, from a pass before, give the same gradient."""
    assembly, engine = make(*NANO, "adapter.through_writes=false", *rule)
    learner, batch = engine.learner, assembly.stream.phases[0].batch(0)
    last = learner.model.layers[1].mlp.down_proj
    passes = []
    make_writes = last._writes
    last._writes = lambda *inputs: passes.append(make_writes(*inputs)) or passes[-1]
    first = torch.autograd.grad(loss_of(learner, assembly.recipe, batch, step=0), last.weight)[0]
    writes = passes[0][0]
    assert not any(x.requires_grad for x in (writes.k_BNCF, writes.v_BNCD))
    assert writes.q_BNCF.requires_grad
    last._writes = lambda *inputs: passes[0]
    learner.fast = learner.adapter.initial()
    second = torch.autograd.grad(loss_of(learner, assembly.recipe, batch, step=0), last.weight)[0]
    torch.testing.assert_close(second, first)


def test_a_base_is_shared_with_and_without_gradients_through_writes():
    configs = [make(*NANO, f"adapter.through_writes={x}")[0].config["adapter"] for x in ("true", "false")]
    assert configs[0] != configs[1]
    assert base_adapter(configs[0]) == base_adapter(configs[1])
