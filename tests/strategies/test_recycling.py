"""continual_backprop and redo: which units begin anew, in what state, judged by which passes.

Shapes: F units of a layer, N tokens.
"""

from __future__ import annotations

import copy

import pytest
import torch
from learning import begin_task, learn_task
from strategy_jobs import JOBS, MLP, NANO, STRATEGIES, OneBatch, learned, make, read, weights
from torch import Tensor

from ttt.learner import Engine, cross_entropy
from ttt.metrics.plasticity import dormant_tau
from ttt.models.units import hear_training, hidden_units, listening
from ttt.stream import Batch
from ttt.training.train import train

BACKPROP = STRATEGIES["continual_backprop"]
# The units of each layer that begin anew.
CHOSEN = {0: torch.tensor([1, 5]), 1: torch.tensor([2])}


@pytest.mark.parametrize(
    ("job", "optimizer"),
    [
        (MLP, ("optimizer=sgd", "optimizer.momentum=0.9")),
        (MLP, ("optimizer=adamw",)),
        (MLP, ("optimizer=adafactor",)),
        (NANO, ("optimizer=adamw",)),
        (NANO, ("optimizer=muon",)),
    ],
)
def test_a_new_unit_is_fresh_going_in_and_silent_going_out_and_nothing_else_moves(job, optimizer):
    clipped = (word for word in job if not word.startswith("optimizer"))
    assembly, engine = learned(*clipped, *optimizer, *BACKPROP, "strategy.maturity=99", tasks=1)
    before, moments = weights(engine), moments_of(engine)
    fast = {name: x.clone() for name, x in engine.learner.fast.items()}
    assembly.recipe.strategy.renew(engine, CHOSEN)
    touched = check_units(engine, before)
    for name, x in weights(engine).items():
        assert torch.equal(x[~touched[name]], before[name][~touched[name]])
        for key, moment in moments_of(engine).get(name, {}).items():
            check_moment(moment, moments[name][key], touched[name])
    layers = hidden_units(engine.learner.model)
    for number, units in CHOSEN.items():
        for key in (key for key in fast if key.startswith(f"{layers[number].name}.")):
            assert fast[key][..., units].any()
            fast[key][..., units] = 0
    assert all(torch.equal(x, fast[key]) for key, x in engine.learner.fast.items())


def check_units(engine: Engine, before: dict[str, Tensor]) -> dict[str, Tensor]:
    """Assert that the chosen units are new; return a mask of their numbers for each parameter."""
    touched = {name: torch.zeros_like(x, dtype=torch.bool) for name, x in before.items()}
    names = {id(p): name for name, p in engine.learner.model.named_parameters()}
    layers = hidden_units(engine.learner.model)
    for number, units in CHOSEN.items():
        for linear in layers[number].incoming:
            touched[names[id(linear.weight)]][units] = True
            assert not torch.equal(linear.weight[units], before[names[id(linear.weight)]][units])
            if linear.bias is not None:
                touched[names[id(linear.bias)]][units] = True
                assert not linear.bias[units].any()
        touched[names[id(layers[number].weight_out)]][:, units] = True
        assert not layers[number].weight_out[:, units].any()
    return touched


def check_moment(now: Tensor, before: Tensor, touched: Tensor) -> None:
    """Assert that a moment is zero where the parameter was touched, and as before elsewhere."""
    if now.shape == touched.shape:
        assert before[touched].any() == touched.any()
        assert not now[touched].any()
        assert torch.equal(now[~touched], before[~touched])
    elif now.dim() == touched.dim() == 2:
        # Adafactor's: of rows [F, 1] or of columns [1, D].
        whole = touched.all(1, keepdim=True) if now.shape[1] == 1 else touched.all(0, keepdim=True)
        assert not now[whole].any()
        assert torch.equal(now[~whole], before[~whole])


def moments_of(engine: Engine) -> dict[str, dict[str, Tensor]]:
    names = {id(p): name for name, p in engine.learner.model.named_parameters()}
    return {
        names[id(p)]: {key: x.clone() for key, x in state.items() if isinstance(x, Tensor) and x.dim()}
        for p, state in engine.optimizer.state.items()
    }


def test_new_units_have_the_spread_of_the_start():
    assembly, engine = make(*MLP, "model.widths=[400]", *BACKPROP)
    (layer,) = hidden_units(engine.learner.model)
    start = float(layer.incoming[0].weight.detach().std())
    learn_task(engine, assembly, 0)
    with torch.no_grad():
        layer.incoming[0].weight.mul_(50)
    assembly.recipe.strategy.renew(engine, {0: torch.arange(400)})
    assert float(layer.incoming[0].weight.detach().std()) == pytest.approx(start, rel=0.05)
    assert float(layer.incoming[0].weight.detach().mean()) == pytest.approx(0, abs=start / 20)


class PaperLoop:
    """Utilities and ages of one layer, unit by unit in plain Python."""

    def __init__(self, units: int, *, rate: float, maturity: int, decay: float) -> None:
        self.utility, self.age, self.due = [0.0] * units, [0] * units, 0.0
        self._rate, self._maturity, self._decay = rate, maturity, decay

    def step(self, heard_NF: Tensor, outgoing: Tensor) -> list[int]:
        """Return the units that are replaced after a step."""
        for f in range(len(self.utility)):
            now = float(heard_NF[:, f].abs().mean()) * float(outgoing[:, f].abs().sum())
            self.utility[f] = self._decay * self.utility[f] + (1 - self._decay) * now
            self.age[f] += 1
        mature = [f for f, age in enumerate(self.age) if age > self._maturity]
        self.due += self._rate * len(mature)
        count = int(self.due)
        self.due -= count
        ranked = sorted(mature, key=lambda f: self.utility[f] / (1 - self._decay ** self.age[f]))
        for f in ranked[:count]:
            self.utility[f], self.age[f] = 0.0, 0
        return sorted(ranked[:count])


def test_continual_backprop_is_the_papers_loop_over_units():
    assembly, engine = make(*MLP, *BACKPROP, "strategy.decay=0.8", "task.steps_per_task=12")
    strategy, layers = assembly.recipe.strategy, hidden_units(engine.learner.model)
    loops = [PaperLoop(layer.weight_out.shape[1], rate=0.1, maturity=2, decay=0.8) for layer in layers]
    replaced: dict[int, list[int]] = {}
    renew, total = strategy.renew, 0

    def watched(engine, chosen):
        replaced.update({number: sorted(units.tolist()) for number, units in chosen.items()})
        renew(engine, chosen)

    strategy.renew = watched
    phase = assembly.stream.phases[0]
    for step in range(12):
        replaced.clear()
        # The utility sees the weights after the step, before anyone is replaced.
        outgoing = outgoing_after_sgd(copy.deepcopy(engine), phase.batch(step))
        with listening(layers) as heard:
            list(train(engine, OneBatch(phase.batch(step)), recipe=assembly.recipe, steps=1, report_every=1))
        expected = {n: loops[n].step(heard[layer.name], outgoing[n]) for n, layer in enumerate(layers)}
        assert replaced == {number: units for number, units in expected.items() if units}
        total += sum(len(units) for units in replaced.values())
        for number, loop in enumerate(loops):
            assert strategy.utility[number].tolist() == pytest.approx(loop.utility, rel=1e-4, abs=1e-9)
            assert strategy.age[number].tolist() == loop.age
    assert strategy.terms()["replaced"] == total > 10


def outgoing_after_sgd(engine: Engine, batch: Batch) -> list[Tensor]:
    """Outgoing weights after one SGD step without a strategy."""
    model, lr = engine.learner.model, engine.optimizer.param_groups[0]["lr"]
    loss = cross_entropy(model(batch.tokens_BT), batch, reduction="mean")
    outgoing = [layer.weight_out for layer in hidden_units(model)]
    return [w.detach() - lr * g for w, g in zip(outgoing, torch.autograd.grad(loss, outgoing), strict=True)]


def test_redo_renews_the_units_that_were_dormant_since_the_last_time_and_no_others():
    assembly, engine = make(*MLP, "strategy=redo", "strategy.every=6", "strategy.tau=0.2")
    layers = hidden_units(engine.learner.model)
    with torch.no_grad():
        layers[0].incoming[0].weight[[3, 7]] = 0
        layers[0].incoming[0].bias[[3, 7]] = -1.0
    begin_task(engine, assembly, 0)
    phase, batches, terms = assembly.stream.phases[0], [], []
    for step in range(6):
        task = OneBatch(phase.batch(step))
        with listening(layers) as heard:
            terms += [p.terms for p in train(engine, task, recipe=assembly.recipe, steps=1, report_every=1)]
        batches.append(dict(heard))
    heard = {layer.name: torch.cat([batch[layer.name] for batch in batches]) for layer in layers}
    assert terms[-1]["dormant"] == pytest.approx(dormant_tau([heard[layer.name] for layer in layers], tau=0.2))
    assert [t["recycled"] for t in terms[:-1]] == [0] * 5

    def count_quiet(activities: dict[str, Tensor]) -> int:
        means = [activities[layer.name].abs().mean(0) for layer in layers]
        return sum(int((mean <= 0.2 * mean.mean()).sum()) for mean in means)

    assert terms[-1]["recycled"] == count_quiet(heard) >= 2
    # On one small batch more units are silent, though they are well.
    assert count_quiet(batches[-1]) > count_quiet(heard)
    silent = (layers[0].weight_out.detach() == 0).all(0).nonzero().flatten().tolist()
    assert {3, 7} <= set(silent)
    assert len(silent) < 16
    # The new units learn again: their way in is open.
    learn_task(engine, assembly, 1)
    with torch.no_grad():
        assert layers[0].incoming[0].weight[[3, 7]].abs().sum(1).gt(0).all()


@pytest.mark.parametrize(
    "job",
    [
        (*MLP, "strategy=redo", "strategy@also=agem", "also.size=8"),
        (*NANO, "strategy=redo", "strategy@also=distill"),
    ],
    ids=["agem", "distill"],
)
def test_passes_beside_that_of_the_batch_are_not_heard(job):
    """Units are judged on the batch, not on agem's memory or in the slow-only pass of distill."""
    assembly, engine = learned(*job, tasks=1)
    begin_task(engine, assembly, 1)
    layers, batch = hidden_units(engine.learner.model), assembly.stream.phases[1].batch(0)
    passes: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    for layer in layers:
        layer.outgoing.register_forward_pre_hook(
            lambda _, args, name=layer.name: passes[name].append(args[0].detach().flatten(0, -2).clone())
        )
    list(train(engine, OneBatch(batch), recipe=assembly.recipe, steps=1, report_every=1))
    heard = assembly.recipe.strategy._parts[0].heard
    for layer in layers:
        # The first pass of a step is that of the batch.
        first, *others = passes[layer.name]
        assert torch.equal(heard[layer.name], first)
        assert others
    # Only in the last layer: below it fast weights may have changed nothing yet.
    assert not any(first.shape == other.shape and torch.equal(first, other) for other in others)


@pytest.mark.parametrize("job", JOBS)
def test_units_are_heard_in_training_only_and_never_through_a_copy(job):
    assembly, engine = make(*JOBS[job])
    learner = engine.learner
    heard = hear_training(hidden_units(learner.model))
    batch = assembly.stream.phases[0].batch(0)
    read(engine, batch)
    with torch.no_grad():
        learner(batch, learner.adapter.initial())
    copy.deepcopy(learner)(batch, learner.adapter.initial())
    assert heard == {}
    learner(batch, learner.adapter.initial())
    assert set(heard) == {layer.name for layer in hidden_units(learner.model)}
    assert not any(x.requires_grad for x in heard.values())
