"""Strategies that act on the weights alone: each does what its paper writes, goes on as if never stopped, and refuses
what cannot work."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from harness import FAST, TINY, only_run, run_here
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from learning import begin_task, learn_task
from omegaconf import DictConfig, OmegaConf
from streams import stream_to_the_end

from ttt.devices.one_device import OneDevice
from ttt.learner import Engine, cross_entropy, slow_hash
from ttt.run.assemble import Assembly, assemble
from ttt.storage import checkpoint
from ttt.strategies.importance import fisher, importances, sampled_batches, squared_norm
from ttt.strategies.shared import generator
from ttt.training.train import NonFiniteError, train

ENVIRONMENT = (
    "trainer.threads=1", "trainer.precision=32-true", "trainer.accelerator=cpu", "logger=none", "report=false",
)  # fmt: skip
DIGITS = (
    *ENVIRONMENT, "model=mlp", "model.widths=[16,12]", "source=digits", "adapter=none", "base=none",
    "task.num_tasks=3", "task.batch_size=8", "task.steps_per_task=6", "task.eval_sequences=8", "optimizer=sgd",
    "optimizer.clip=null", "trainer.report_every=1",
)  # fmt: skip
MLP = (*DIGITS, "task=permuted-sequence", "task.permute=positions")
# One matrix and one bias: gradients can be written down.
LINEAR = (*MLP, "model.widths=[]")
NANO = (*(o for o in TINY if not o.startswith("base.")), *FAST, "base=none", "adapter.reset=never",
        "optimizer.lr=0.01", "trainer.report_every=1")  # fmt: skip

STRONG = {
    "l2": ["strategy.coefficient=0.3"],
    "l2_init": ["strategy.coefficient=0.3"],
    "ewc": ["strategy.coefficient=5", "strategy.samples=20"],
    "online_ewc": ["strategy.coefficient=5", "strategy.samples=20", "strategy.gamma=0.7"],
    "si": ["strategy.coefficient=30"],
    "mas": ["strategy.coefficient=0.05", "strategy.samples=20"],
    "shrink_perturb": ["strategy.shrink=0.99", "strategy.perturb=0.02"],
    "layer_reset": ["strategy.to=fresh"],
}
PENALTIES = [name for name in STRONG if name not in ("shrink_perturb", "layer_reset")]
# These wait for the end of a task.
LATE = [name for name in PENALTIES if name != "l2_init"]


def chosen(name: str) -> list[str]:
    return [f"strategy={name}", *STRONG[name]]


@cache
def composed(groups: tuple[str, ...]) -> DictConfig:
    with initialize_config_module("ttt.conf", version_base="1.3"):
        return compose("config", overrides=list(groups))


def make(*overrides: str) -> tuple[Assembly, Engine]:
    """Composing takes longer than what most tests do: once for each choice of parts."""
    values = [override for override in overrides if "." in override.partition("=")[0]]
    config = copy.deepcopy(composed(tuple(override for override in overrides if override not in values)))
    for override in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(config, override.key_or_group, override.value())
    assembly = assemble(OmegaConf.to_container(config, resolve=True), trusted=[])
    return assembly, assembly.engine(assembly.settings.fabric(), None)


def weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in engine.learner.model.named_parameters()}


def data_gradients(engine: Engine, batch) -> dict[str, torch.Tensor]:
    model = copy.deepcopy(engine.learner.model)
    model.zero_grad()
    cross_entropy(model(batch.tokens_BT), batch, reduction="mean").backward()
    return {name: p.grad for name, p in model.named_parameters()}


# What each changes


@pytest.mark.parametrize("setting", [MLP, NANO], ids=["mlp", "nano"])
@pytest.mark.parametrize("name", STRONG)
def test_weights_differ_from_naives_and_penalties_are_positive(name, setting):
    assembly, engine = make(*setting, *chosen(name))
    plain_assembly, plain = make(*setting)
    assert slow_hash(engine.learner.model) == slow_hash(plain.learner.model)
    first = learn_task(engine, assembly, 0)
    learn_task(plain, plain_assembly, 0)
    if name in (*LATE, "layer_reset"):
        assert slow_hash(engine.learner.model) == slow_hash(plain.learner.model)
    before = weights(engine)
    second = learn_task(engine, assembly, 1)
    learn_task(plain, plain_assembly, 1)
    assert slow_hash(engine.learner.model) != slow_hash(plain.learner.model)
    assert all(x.isfinite().all() for x in weights(engine).values())
    if name in PENALTIES:
        assert all(progress.terms["penalty"] > 0 for progress in second)
        # Penalties are told as they stand after the step.
        assert all((progress.terms["penalty"] > 0) == (name == "l2_init") for progress in first)
    moved = {key: float((x - before[key]).norm()) for key, x in weights(engine).items()}
    assert sum(moved.values()) > 0


@pytest.mark.parametrize("setting", [MLP, NANO], ids=["mlp", "nano"])
@pytest.mark.parametrize("name", ["ewc", "online_ewc", "si", "mas"])
def test_importances_are_not_zero_and_anchors_are_copies(name, setting):
    assembly, engine = make(*setting, *chosen(name))
    strategy = assembly.recipe.strategy
    for index in range(2):
        learn_task(engine, assembly, index)
        for importance, anchor, parameter in zip(strategy.importance, strategy.anchor, strategy.trained, strict=True):
            assert (importance >= 0).all()
            assert anchor.data_ptr() != parameter.data_ptr()
        assert sum(float(x.sum()) for x in strategy.importance) > 0
    named = {id(p): name for name, p in engine.learner.model.named_parameters()}
    found = {named[id(p)]: float(x.sum()) for p, x in zip(strategy.trained, strategy.importance, strict=True)}
    if setting is MLP:
        assert all(total > 0 for total in found.values())
    else:
        # The fast weights took part: without writes nothing depends on their step size.
        assert found["layers.0.mlp.down_proj.log_step"] > 0


@pytest.mark.parametrize("name", PENALTIES)
def test_the_pull_is_strong_where_it_should_be(name):
    """The larger the coefficient, the nearer to the anchor."""
    distances = []
    for coefficient in (0.0, 1.0, 20.0):
        job = [o for o in chosen(name) if "coefficient" not in o]
        scale = {"l2": 0.05, "l2_init": 0.05, "si": 10, "mas": 0.02}.get(name, 2)
        assembly, engine = make(*MLP, *job, f"strategy.coefficient={coefficient * scale}", "optimizer.lr=0.02")
        learn_task(engine, assembly, 0)
        anchor = torch.cat([x.flatten() for x in (assembly.recipe.strategy.anchor)])
        importance = assembly.recipe.strategy.importance or [
            torch.ones_like(p) for p in assembly.recipe.strategy.trained
        ]
        weight = torch.cat([x.flatten() for x in importance])
        learn_task(engine, assembly, 1, ends=False)
        now = torch.cat([p.detach().flatten() for p in assembly.recipe.strategy.trained])
        distances.append(float((weight / weight.mean() * (now - anchor).square()).sum()))
    assert distances[0] > distances[1] > distances[2] > 0


def test_a_coefficient_of_zero_is_naive_to_the_last_bit():
    hashes = set()
    for job in (["strategy=naive"], *([*chosen(name), "strategy.coefficient=0"] for name in PENALTIES)):
        assembly, engine = make(*MLP, *job)
        for index in range(3):
            learn_task(engine, assembly, index)
        hashes.add(slow_hash(engine.learner.model))
    assert len(hashes) == 1


# Closed forms


def test_a_step_of_l2_by_hand():
    assembly, engine = make(*MLP, *chosen("l2"), "optimizer.lr=0.1", "task.steps_per_task=1")
    learn_task(engine, assembly, 0)
    anchor = weights(engine)
    # A second task of one step starts at the anchor; so look at the third.
    begin_task(engine, assembly, 1)
    learn_task(engine, assembly, 1, ends=False)
    before, gradient = weights(engine), data_gradients(engine, assembly.stream.phases[2].batch(0))
    learn_task(engine, assembly, 2, ends=False)
    for name, now in weights(engine).items():
        expected = before[name] - 0.1 * (gradient[name] + 2 * 0.3 * (before[name] - anchor[name]))
        torch.testing.assert_close(now, expected)


def test_a_step_of_l2_init_by_hand():
    assembly, engine = make(*MLP, *chosen("l2_init"), "optimizer.lr=0.1", "task.steps_per_task=1")
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
    """Value and gradient of the one quadratic against those of all of them, kept apart."""
    assembly, engine = make(*MLP, *chosen("ewc"), "optimizer.lr=0.3")
    strategy, kept, sizes = assembly.recipe.strategy, [], []
    for index in range(3):
        learn_task(engine, assembly, index, ends=False)
        kept.append((strategy.information(engine, index), [p.detach().clone() for p in strategy.trained]))
        strategy.end_task(engine, index)
        sizes.append(sum(x.numel() for x in strategy.state().values()))
    # What is kept does not grow with the tasks.
    assert sizes[0] == sizes[2]
    with torch.no_grad():
        for parameter in strategy.trained:
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    copies = [p.detach().double().requires_grad_() for p in strategy.trained]
    total = sum(
        (importance.double() * (p - anchor.double()).square()).sum()
        for information, anchors in kept
        for p, importance, anchor in zip(copies, information, anchors, strict=True)
    )
    (5.0 * total).backward()
    assert strategy.penalty() == pytest.approx(5.0 * float(total.detach()), rel=1e-5)
    assert all(parameter.grad is None for parameter in strategy.trained)
    # Where the data has no part in a weight, the penalty still has.
    strategy.gradients(engine)
    for parameter, expected in zip(strategy.trained, copies, strict=True):
        torch.testing.assert_close(parameter.grad.double(), expected.grad, rtol=1e-4, atol=1e-6)


def rows(assembly: Assembly, samples: int):
    """x [N, X], labels [N] of the first rows of the first task."""
    batches = [assembly.stream.phases[0].batch(step) for step in range(assembly.stream.phases[0].steps)]
    x_NX = torch.cat([b.tokens_BT for b in batches]).flatten(0, 1)
    return x_NX[:samples], torch.cat([b.targets_BT for b in batches]).flatten()[:samples]


def information(*, per: str, labels: str, samples: int, setting=LINEAR):
    assembly, engine = make(*setting)
    score = fisher(per=per, labels=labels, generator=lambda number: generator(assembly.stream, number))
    read = sampled_batches(assembly.stream.phases[0], samples=samples, per=per)
    model = engine.learner.model
    found = importances(engine, read, of=[model.head.weight, model.head.bias], score=score, power=2)
    return assembly, model, found


@pytest.mark.parametrize("labels", ["data", "predicted"])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_the_fisher_of_a_linear_model_by_hand(per, labels):
    """A row's gradient is (p - label) x^T. 20 rows are two batches of 8 and one of 4."""
    assembly, model, (of_weight, of_bias) = information(per=per, labels=labels, samples=20)
    x_NX, label_N = rows(assembly, 20)
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
    many = (*LINEAR, "task.steps_per_task=60")
    assembly, model, (_, of_bias) = information(per="sample", labels="model", samples=480, setting=many)
    p_NV = model(rows(assembly, 480)[0][:, None])[:, 0].detach().softmax(-1)
    exact = (p_NV * (1 - p_NV)).mean(0)
    assert float((of_bias - exact).norm() / exact.norm()) < 0.15
    again = information(per="sample", labels="model", samples=480, setting=many)[2]
    assert torch.equal(of_bias, again[1])
    other = information(per="sample", labels="model", samples=480, setting=(*many, "seed=1", "base.seed=0"))[2]
    assert not torch.equal(of_bias, other[1])


def test_more_samples_than_rows_are_all_rows():
    assembly, _, found = information(per="sample", labels="data", samples=10**6)
    assert sum(len(x.tokens_BT) for x in sampled_batches(assembly.stream.phases[0], samples=10**6, per="batch")) == 6 * 8
    assert torch.equal(found[0], information(per="sample", labels="data", samples=48)[2][0])


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_mas_of_a_linear_model_by_hand(per):
    """|d |Wx + b|^2 / d W| = 2 |o| |x|^T for a row."""
    assembly, engine = make(*LINEAR)
    model = engine.learner.model
    read = sampled_batches(assembly.stream.phases[0], samples=16, per=per)
    of_weight, of_bias = importances(engine, read, of=[model.head.weight, model.head.bias], score=squared_norm, power=1)
    x_NX, _ = rows(assembly, 16)
    scores_NV = model(x_NX[:, None])[:, 0].detach()
    gradient_NVX, size = 2 * scores_NV[:, :, None] * x_NX[:, None], 1 if per == "sample" else 8
    mean_over = lambda g: torch.stack([part.mean(0).abs() for part in g.split(size)]).mean(0)  # noqa: E731
    torch.testing.assert_close(of_weight, mean_over(gradient_NVX))
    torch.testing.assert_close(of_bias, mean_over(2 * scores_NV))


@pytest.mark.parametrize("name", ["ewc", "mas"])
def test_outputs_that_do_not_compete_have_no_importance(name):
    split = [o for o in DIGITS if "num_tasks" not in o]
    assembly, engine = make(*split, "task.num_tasks=2", "task.classes_per_task=2", "task.scenario=task", *chosen(name))
    learn_task(engine, assembly, 0)
    strategy = assembly.recipe.strategy
    bias = next(i for i, p in enumerate(strategy.trained) if p is engine.learner.model.head.bias)
    competing = assembly.stream.phases[0].batch(0).outputs_BV[0].nonzero().flatten().tolist()
    assert strategy.importance[bias].nonzero().flatten().tolist() == competing


def test_online_ewc_fades_and_its_anchor_is_the_latest():
    assembly, engine = make(*MLP, *chosen("online_ewc"))
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
    assembly, engine = make(*MLP, *chosen("mas"))
    strategy = assembly.recipe.strategy
    learn_task(engine, assembly, 0)
    before = [x.clone() for x in strategy.importance]
    learn_task(engine, assembly, 1)
    assert all((now >= x).all() and (now > x).any() for now, x in zip(strategy.importance, before, strict=True))


@pytest.mark.parametrize("clip", ["null", "0.01"])
def test_si_by_hand(clip):
    """The path integral takes the gradient of the data, before penalty and clipping, and the step that was made."""
    job = ["strategy.xi=0.02", "optimizer.lr=0.3", "optimizer.momentum=0.9", f"optimizer.clip={clip}"]
    assembly, engine = make(*LINEAR, *chosen("si"), *job)
    omega = {name: torch.zeros_like(x) for name, x in weights(engine).items()}
    for index in range(2):
        phase, start = assembly.stream.phases[index], weights(engine)
        path = {name: torch.zeros_like(x) for name, x in start.items()}
        begin_task(engine, assembly, index)
        for step in range(phase.steps):
            before, gradient = weights(engine), data_gradients(engine, phase.batch(step))
            one = type(phase)(phase.name, phase.task, 1, lambda _, s=step, p=phase: p.batch(s))
            (progress,) = train(engine, one, recipe=assembly.recipe, steps=1, report_every=1)
            for name, now in weights(engine).items():
                path[name] -= gradient[name] * (now - before[name])
            penalty = 30 * sum((omega[n] * (x - start[n]).square()).sum() for n, x in weights(engine).items())
            assert progress.terms["penalty"] == pytest.approx(float(penalty), rel=1e-4)
        assembly.recipe.strategy.end_task(engine, index)
        for name, now in weights(engine).items():
            omega[name] += path[name].clamp_min(0) / ((now - start[name]).square() + 0.02)
        found = assembly.recipe.strategy.importance
        names = {id(p): name for name, p in engine.learner.model.named_parameters()}
        for parameter, importance in zip(assembly.recipe.strategy.trained, found, strict=True):
            torch.testing.assert_close(importance, omega[names[id(parameter)]], rtol=1e-3, atol=1e-7)
    # Momentum at times goes uphill: such weights count nothing, not less than that.
    assert any((x < 0).any() for x in path.values())


def test_shrinking_by_hand():
    """Matrices and biases after each step."""
    job = ["strategy=shrink_perturb", "strategy.shrink=0.9", "strategy.perturb=0"]
    assembly, engine = make(*MLP, *job, "optimizer.lr=0.1", "task.steps_per_task=1")
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
    """Noise as wide as asked for, another one each time, the same again in another process."""
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
    again_assembly, again = make(*MLP, *job)
    for index in range(3):
        learn_task(again, again_assembly, index)
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
    job = [o for o in MLP if o != "optimizer=sgd"]
    assembly, engine = make(*job, "optimizer=adamw", "strategy=layer_reset", f"strategy.to={to}", *overrides)
    start = weights(engine)
    learn_task(engine, assembly, 0)
    learned = weights(engine)
    begin_task(engine, assembly, 1)
    for name, parameter in engine.learner.model.named_parameters():
        assert (parameter in engine.optimizer.state) == (name not in reset)
        if name not in reset:
            assert torch.equal(parameter, learned[name])
        elif to == "start":
            assert torch.equal(parameter, start[name])
        else:
            assert float((parameter.detach() - start[name]).norm() / start[name].norm()) > 0.5
            assert float(parameter.detach().std()) == pytest.approx(float(start[name].std()), rel=0.5)


def test_a_transformers_last_mlp_is_reset_and_its_fast_parts_keep_their_form():
    assembly, engine = make(*NANO, "strategy=layer_reset", "strategy.to=fresh")
    start = weights(engine)
    learn_task(engine, assembly, 0)
    learned = weights(engine)
    begin_task(engine, assembly, 1)
    found = weights(engine)
    last = max(name.split(".")[1] for name in found if name.startswith("layers."))
    changed = {name for name in found if not torch.equal(found[name], learned[name])}
    assert {name for name in changed if not name.startswith(f"layers.{last}.mlp.")} == set()
    assert {f"layers.{last}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")} <= changed
    for part in ("log_step", "conv_OD", "target_DD"):
        name = f"layers.{last}.mlp.down_proj.{part}"
        assert torch.equal(found[name], start[name])


# What must not happen


@pytest.mark.parametrize("name", ["ewc", "online_ewc", "mas"])
def test_measuring_importance_leaves_no_trace(name):
    assembly, engine = make(*NANO, *chosen(name))
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


@pytest.mark.parametrize("name", PENALTIES)
def test_a_diverging_penalty_stops_the_run_with_task_and_step(name):
    job = [o for o in chosen(name) if "coefficient" not in o]
    assembly, engine = make(*MLP, *job, "strategy.coefficient=1e30")
    tasks = [phase.name for phase in assembly.stream.phases]
    seen = 0

    def learn_all() -> None:
        nonlocal seen
        for seen in range(3):
            learn_task(engine, assembly, seen)

    with pytest.raises(NonFiniteError, match=r"(loss|penalty) on '.*' is (nan|inf) by step [1-6]$") as stop:
        learn_all()
    assert repr(tasks[seen]) in str(stop.value)


def test_noise_that_diverges_stops_the_run_with_task_and_step():
    assembly, engine = make(*MLP, "strategy=shrink_perturb", "strategy.perturb=1e30")
    with pytest.raises(NonFiniteError, match=rf"loss on '{assembly.stream.phases[0].name}' is (nan|inf) by step"):
        learn_task(engine, assembly, 0)


# Stopped and gone on


EVERY = [*STRONG, "shrink_perturb task", "layer_reset start"]


@pytest.mark.parametrize(
    ("name", "setting"),
    [*((name, MLP) for name in EVERY), *((name, NANO) for name in ("ewc", "si", "shrink_perturb", "layer_reset"))],
)
def test_a_run_that_stopped_goes_on_to_the_last_bit(name, setting, tmp_path):
    """Every tensor of the last checkpoint, the strategy's own among them."""
    name, _, how = name.partition(" ")
    job = [*chosen(name), *({"task": ["strategy.every=task"], "start": ["strategy.to=start"]}.get(how, []))]
    job = [*(o for o in setting if not o.startswith("optimizer=")), "optimizer=adamw", *job]
    stream_to_the_end(*make(*job), tmp_path / "whole")
    for saved in ("task-0002", "task-0003"):
        assert (tmp_path / "whole" / saved).is_dir()
    stream_to_the_end(*make(*job), tmp_path / "rest", after=tmp_path / "whole" / "task-0002")
    whole, rest = (checkpoint.load(tmp_path / side / "task-0003") for side in ("whole", "rest"))
    assert whole.tensors["strategy"]
    for group, tensors in whole.tensors.items():
        assert tensors.keys() == rest.tensors[group].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, rest.tensors[group][key]), (group, key)
    assert whole.state["rows"] == rest.state["rows"]


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
    """What three devices send adds up to what one finds."""
    assembly, engine = make(*LINEAR)
    score = fisher(per="sample", labels="model", generator=lambda number: generator(assembly.stream, number))
    of = list(engine.learner.model.parameters())
    whole = importances(
        engine, sampled_batches(assembly.stream.phases[0], samples=19, per="sample"), of=of, score=score, power=2
    )
    members = [Member(rank, of=3) for rank in range(3)]
    for member in members:
        read = sampled_batches(assembly.stream.phases[0], samples=19, per="sample")
        importances(replace(engine, fabric=member), read, of=of, score=score, power=2)
    assert [float(member.sent[0]) for member in members] == [7, 6, 6]
    for place, one in enumerate(whole):
        torch.testing.assert_close(sum(member.sent[1 + place] for member in members) / 19, one)


# What a user types


@pytest.mark.parametrize(
    ("args", "message"),
    [
        *((f"strategy={name} strategy.coefficient=-1", "strategy.coefficient=-1: must be") for name in PENALTIES),
        ("strategy=l2 strategy.coefficient=inf", "strategy.coefficient=inf: must be a finite number"),
        ("strategy=l2 strategy.coefficient=nan", "strategy.coefficient=nan: must be a finite number"),
        ("strategy=l2 strategy.coefficient=much", "strategy.coefficient=much: must be a number"),
        ("strategy=ewc strategy.samples=0", "strategy.samples=0: must be at least 1"),
        ("strategy=mas strategy.samples=0", "strategy.samples=0: must be at least 1"),
        ("strategy=ewc strategy.fisher=samples", "strategy.fisher=samples: unknown; did you mean sample?"),
        ("strategy=ewc strategy.labels=models", "strategy.labels=models: unknown; did you mean model?"),
        ("strategy=mas strategy.per=batches", "strategy.per=batches: unknown; did you mean batch?"),
        ("strategy=online_ewc strategy.gamma=2", "strategy.gamma=2: must lie between 0"),
        ("strategy=si strategy.xi=0", "strategy.xi=0: must be above 0"),
        ("strategy=shrink_perturb strategy.shrink=1.1", "strategy.shrink=1.1: must lie between 0"),
        ("strategy=shrink_perturb strategy.perturb=-1", "strategy.perturb=-1: must be a finite number"),
        ("strategy=shrink_perturb strategy.every=steps", "strategy.every=steps: unknown; did you mean step?"),
        ("strategy=layer_reset strategy.to=beginning", "strategy.to=beginning: unknown; allowed: fresh, start"),
        ("strategy=layer_reset strategy.layers=[]", "strategy.layers=[]: must name at least one"),
        ("strategy=layer_reset strategy.layers=[heads]", "the model has no heads; did you mean head?"),
        ("strategy=layer_reset strategy.last=4", "strategy.last=4: must lie between 1 and the model's 3 layers"),
        ("strategy=layer_reset strategy.last=0", "strategy.last=0: must lie between 1"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(args, message):
    with pytest.raises(ValueError, match="strategy") as refused:
        make(*MLP, *args.split())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["strategy=ewc", "strategy.coefficient=-1"], "strategy.coefficient=-1: must be a finite number of at least 0"),
        (["strategy=layer_reset", "strategy.last=4"], "strategy.last=4: must lie between 1 and the model's 3 layers"),
    ],
)
def test_refused_at_the_command_line_without_a_folder(args, message, tmp_path):
    outcome = run_here([*MLP, *args], tmp_path)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.glob("outputs/*/*/seed*"))


@pytest.mark.parametrize("name", [*LATE, "layer_reset", "shrink_perturb"])
def test_a_stream_without_boundaries_is_refused_by_those_that_need_them(name):
    job = [*NANO, "task=drift-sequence", *chosen(name)]
    if name == "shrink_perturb":
        make(*job)
        job.append("strategy.every=task")
    with pytest.raises(ValueError, match=f"strategy={name}: needs tasks that are announced"):
        make(*job)


@pytest.mark.parametrize(("first", "second"), [("ewc", "shrink_perturb"), ("si", "l2_init")])
def test_two_at_once(first, second, tmp_path):
    job = [*MLP, *chosen(first), f"strategy@also={second}"]
    job += [o.replace("strategy.", "also.") for o in STRONG[second]]
    outcome = run_here(job, tmp_path)
    assert outcome.code == 0, outcome.err
    folder = only_run(tmp_path)
    assert f"{first}+{second}" in str(folder)
    lines = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"trained"' in line]
    assert f'"{first}.penalty"' in lines[-1]
    tensors = checkpoint.load(sorted(folder.glob("checkpoints/task-*"))[-1]).tensors
    assert {key[:2] for key in tensors["strategy"]} == {"0.", "1."}
    # Each has its part: neither alone, nor none, comes to the same weights.
    hashes = set()
    for alone in (job, chosen(first), [f"strategy={second}", *STRONG[second]], ["strategy=naive"]):
        assembly, engine = make(*(alone if alone is job else [*MLP, *alone]))
        for index in range(3):
            learn_task(engine, assembly, index)
        hashes.add(slow_hash(engine.learner.model))
    assert len(hashes) == 4
