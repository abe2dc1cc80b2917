"""shrink_perturb and layer_reset: which weights they change, when, and by how much."""

from __future__ import annotations

import pytest
import torch
from learning import begin_task, learn_task
from strategy_jobs import MLP, NANO, data_gradients, learned, make, weights

from ttt.learner import slow_hash


def test_shrinking_by_hand():
    """Matrices and biases, after each step."""
    assembly, engine = make(
        *MLP, "strategy=shrink_perturb", "strategy.shrink=0.9", "strategy.perturb=0", "task.steps_per_task=1"
    )
    before, gradient = weights(engine), data_gradients(engine, assembly.stream.phases[0].batch(0))
    learn_task(engine, assembly, 0)
    for name, now in weights(engine).items():
        torch.testing.assert_close(now, (before[name] - 0.1 * gradient[name]) * 0.9)


def test_gains_of_norms_do_not_shrink():
    job = ["strategy=shrink_perturb", "strategy.shrink=0.5", "strategy.perturb=0", "optimizer.lr=1e-12"]
    assembly, engine = make(*NANO, *job, "task.steps_per_task=1")
    before = weights(engine)
    learn_task(engine, assembly, 0)
    shrunk = {name for name, now in weights(engine).items() if not torch.allclose(now, before[name], atol=1e-6)}
    assert shrunk == {name for name, x in before.items() if x.dim() > 1 and float(x.norm()) > 0}


@pytest.mark.parametrize("every", ["step", "task"])
def test_perturbing_by_hand(every):
    """The noise has the right width, changes each time, and is the same in another process."""
    # The rate is next to nothing, so that all that moves is noise.
    job = ["strategy=shrink_perturb", "strategy.shrink=1", "strategy.perturb=0.5", f"strategy.every={every}"]
    job += ["optimizer.lr=1e-12", "task.steps_per_task=1", "model.widths=[64,64]"]
    assembly, engine = make(*MLP, *job)
    start, noises = weights(engine), []
    for index in range(3):
        before = weights(engine)
        learn_task(engine, assembly, index)
        noises.append({name: now - before[name] for name, now in weights(engine).items()})
    assert (float(noises[0]["layers.0.weight"].norm()) < 1e-6) == (every == "task")
    for noise in noises[1:]:
        for name in ("layers.0.weight", "layers.1.weight"):
            assert float(noise[name].std()) == pytest.approx(0.5 * float(start[name].std()), rel=0.05)
        bias = float(start["layers.0.bias"].std())
        assert float(noise["layers.0.bias"].std()) == pytest.approx(0.5 * bias, rel=0.4)
    assert float((noises[1]["layers.0.weight"] - noises[2]["layers.0.weight"]).norm()) > 1
    _, again = learned(*MLP, *job, tasks=3)
    assert slow_hash(again.learner.model) == slow_hash(engine.learner.model)


@pytest.mark.parametrize(
    ("overrides", "reset"),
    [
        ([], {"head.weight", "head.bias"}),
        (["strategy.last=2"], {"head.weight", "head.bias", "layers.1.weight", "layers.1.bias"}),
        (["strategy.layers=[layers.0]"], {"layers.0.weight", "layers.0.bias"}),
        (["strategy.layers=[layers,head.bias]"],
         {f"layers.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")} | {"head.bias"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("to", ["start", "fresh"])
def test_layers_are_reset_as_the_next_task_begins(overrides, reset, to):
    assembly, engine = make(*MLP, "optimizer=adamw", "strategy=layer_reset", f"strategy.to={to}", *overrides)
    start = weights(engine)
    learn_task(engine, assembly, 0)
    after = weights(engine)
    begin_task(engine, assembly, 1)
    for name, parameter in engine.learner.model.named_parameters():
        assert (parameter in engine.optimizer.state) == (name not in reset)
        if name not in reset:
            assert torch.equal(parameter, after[name])
        elif to == "start":
            assert torch.equal(parameter, start[name])
        else:
            assert float((parameter.detach() - start[name]).norm() / start[name].norm()) > 0.5
            assert float(parameter.detach().std()) == pytest.approx(float(start[name].std()), rel=0.5)


def test_a_transformers_last_mlp_is_reset_and_its_fast_parts_keep_their_form():
    assembly, engine = make(*NANO, "strategy=layer_reset", "strategy.to=fresh")
    start = weights(engine)
    learn_task(engine, assembly, 0)
    after = weights(engine)
    begin_task(engine, assembly, 1)
    now = weights(engine)
    last = max(name.split(".")[1] for name in now if name.startswith("layers."))
    changed = {name for name in now if not torch.equal(now[name], after[name])}
    assert {name for name in changed if not name.startswith(f"layers.{last}.mlp.")} == set()
    assert {f"layers.{last}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")} <= changed
    # Random step sizes or filters would make no sense: they go back to the start.
    for part in ("log_step", "conv_OD", "target_DD"):
        name = f"layers.{last}.mlp.down_proj.{part}"
        assert torch.equal(now[name], start[name])
