"""Strategies that renew hidden units, merge fast weights into slow ones, or learn low-rank updates."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import FAST, SMALL, TINY, only_run, run_apart, run_here
from hydra import compose, initialize_config_module
from learning import begin_task, learn_task
from omegaconf import OmegaConf
from streams import stream_to_the_end
from torch import Tensor

import ttt.run.assemble
from ttt.adapters.base import additive
from ttt.config.identity import base_adapter
from ttt.evaluation.evaluate import evaluate
from ttt.learner import Engine, cross_entropy, slow_hash
from ttt.metrics.plasticity import dormant_tau
from ttt.models.units import hear_training, hidden_units, listening
from ttt.results.results import Results
from ttt.results.rows import plain
from ttt.run.assemble import Assembly, assemble
from ttt.storage.checkpoint import load
from ttt.strategies.consolidate import truncated
from ttt.strategies.lora import LowRank
from ttt.strategies.naive import Naive
from ttt.stream import Batch
from ttt.training.train import NonFiniteError, loss_of, train

ENVIRONMENT = tuple(o for o in SMALL if o.startswith(("trainer", "logger", "report")))
MLP = (
    *ENVIRONMENT, "model=mlp", "model.widths=[16,12]", "source=digits", "adapter=none", "base=none",
    "task=permuted-sequence", "task.permute=positions", "task.num_tasks=3", "task.batch_size=8",
    "task.steps_per_task=6", "task.eval_sequences=8", "optimizer=sgd", "optimizer.lr=0.1", "optimizer.clip=null",
    "trainer.report_every=1",
)  # fmt: skip
NANO = (*SMALL, *FAST, "base=none", "adapter.reset=never", "optimizer.lr=0.01", "trainer.report_every=1")
SETTINGS = pytest.mark.parametrize("setting", [MLP, NANO], ids=["mlp", "nano"])
CBP = ("strategy=continual_backprop", "strategy.replacement_rate=0.1", "strategy.maturity=2")
REDO = ("strategy=redo", "strategy.every=2", "strategy.tau=0.5")
EACH = ("strategy=lora_task", "strategy.per=task", "strategy.rank=2")
ALL = {
    "continual_backprop": CBP,
    "redo": REDO,
    "lora_task": ("strategy=lora_task", "strategy.rank=2"),
    "lora_task-each": EACH,
    "olora": ("strategy=olora", "strategy.rank=2"),
    "consolidate": ("strategy=consolidate",),
    "consolidate-slowly": ("strategy=consolidate", "strategy.every=step", "strategy.share=0.1", "strategy.rank=1"),
}
SERVED = [(name, MLP) for name in ALL if "consolidate" not in name] + [(name, NANO) for name in ALL]
IDS = [f"{name}-{'mlp' if setting is MLP else 'nano'}" for name, setting in SERVED]


def _composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    return OmegaConf.to_container(config, resolve=True)


def make(*overrides: str) -> tuple[Assembly, Engine]:
    assembly = assemble(_composed(*overrides), trusted=[])
    return assembly, assembly.engine(assembly.settings.fabric(), None)


def weights(engine: Engine) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in engine.learner.model.named_parameters()}


@torch.no_grad()
def read(engine: Engine, batch, state=None) -> Tensor:
    learner = engine.learner.eval()
    logits_BTV, _ = learner(batch, learner.adapter.initial() if state is None else state, write=False)
    learner.train()
    return logits_BTV


# What all of them owe


@pytest.mark.parametrize(("name", "setting"), SERVED, ids=IDS)
def test_weights_differ_from_naives_and_what_is_shown_is_positive(name, setting):
    assembly, engine = make(*setting, *ALL[name])
    plain_assembly, plain = make(*setting)
    before = weights(engine)
    shown = [progress.terms for index in range(2) for progress in learn_task(engine, assembly, index)]
    for index in range(2):
        learn_task(plain, plain_assembly, index)
    theirs = weights(plain)
    assert any(not torch.equal(x, theirs[key]) for key, x in weights(engine).items() if key in theirs)
    assert any(not torch.equal(x, before[key]) for key, x in weights(engine).items())
    assert all(x.isfinite().all() for x in weights(engine).values())
    assert all(value > 0 for value in shown[-1].values())


@pytest.mark.parametrize(("name", "setting"), SERVED, ids=IDS)
def test_a_run_that_stopped_goes_on_bit_by_bit(name, setting, tmp_path):
    """Every tensor of the last checkpoint and every number of the results, from the checkpoint before it."""
    job = [*(o for o in setting if not o.startswith("optimizer")), "optimizer=adamw", "optimizer.lr=0.01", *ALL[name]]
    whole = _stream(job, tmp_path / "whole", after=None)
    rest = _stream(job, tmp_path / "rest", after=tmp_path / "whole" / "task-0002")
    assert plain(rest.rows) == plain(whole.rows)
    tensors, again = (load(tmp_path / side / "task-0003").tensors for side in ("whole", "rest"))
    assert tensors["strategy"] or name == "lora_task"
    for group, content in tensors.items():
        assert again[group].keys() == content.keys()
        assert all(torch.equal(x, again[group][key]) for key, x in content.items()), group


def _stream(job: list[str], folder: Path, *, after: Path | None) -> Results:
    assembly, engine = make(*job)
    return stream_to_the_end(assembly, engine, folder, after=after)


@pytest.mark.parametrize("name", [name for name in ALL if "consolidate" not in name])
def test_divergence_stops_with_task_and_step(name):
    assembly, engine = make(*MLP, *ALL[name], "optimizer.lr=1e30")
    with pytest.raises(NonFiniteError, match=rf"on '{assembly.stream.phases[0].name}' is (nan|inf) by step \d"):
        learn_task(engine, assembly, 0)


def test_a_huge_penalty_of_olora_stops_with_task_and_step():
    assembly, engine = make(*MLP, *ALL["olora"], "strategy.coefficient=1e38")
    learn_task(engine, assembly, 0)
    with pytest.raises(NonFiniteError, match=rf"on '{assembly.stream.phases[1].name}' is (nan|inf) by step 1"):
        learn_task(engine, assembly, 1)


def test_fast_weights_that_left_the_numbers_stop_a_merging_run():
    assembly, engine = make(*NANO, *ALL["consolidate-slowly"])
    engine.learner.fast["layers.0.mlp.memory"].fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=rf"on '{assembly.stream.phases[0].name}' is nan by step 1"):
        list(train(engine, assembly.stream.phases[0], recipe=assembly.recipe, steps=1, report_every=1))


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ([*MLP, *CBP, "strategy.replacement_rate=-1"], "strategy.replacement_rate=-1: must lie between 0 and 1"),
        ([*MLP, *CBP, "strategy.maturity=-1"], "strategy.maturity=-1: must be at least 0"),
        ([*MLP, *CBP, "strategy.decay=1"], "strategy.decay=1: must lie in [0, 1)"),
        ([*MLP, *CBP, "model.widths=[]"], "strategy=continual_backprop: the model has no hidden units"),
        ([*MLP, *REDO, "strategy.every=0"], "strategy.every=0: must be at least 1"),
        ([*MLP, *REDO, "strategy.tau=1"], "strategy.tau=1: must lie in [0, 1)"),
        ([*MLP, *EACH, "strategy@also=redo"], "strategy=redo: weights of layers.0 are not learned"),
        ([*MLP, *EACH, "strategy@also=olora"], "strategy=olora: the model has low-rank updates already"),
        ([*MLP, *EACH, "strategy.per=tsk"], "strategy.per=tsk: unknown; did you mean task? allowed: stream, task"),
        ([*MLP, *EACH, "strategy.rank=0"], "strategy.rank=0: must be at least 1"),
        ([*MLP, *EACH, "strategy.alpha=0"], "strategy.alpha=0: must be a finite number above 0"),
        ([*MLP, *EACH, "strategy.layers=[]"], "strategy.layers=[]: must name at least one layer"),
        ([*MLP, *EACH, "strategy.layers=[hed]"], 'strategy.layers=["hed"]: no linear layer is in hed; did you mean'),
        ([*NANO, *EACH, "optimizer=muon"], "optimizer=muon: the model has no hidden matrices"),
        ([*NANO, *EACH, "task=drift-sequence"], "strategy=lora_task: needs tasks that are announced"),
        ([*MLP, "strategy=olora", "strategy.coefficient=-1"], "strategy.coefficient=-1: must be a finite number"),
        ([*NANO, "strategy=olora", "task=drift-sequence"], "strategy=olora: needs tasks that are announced"),
        ([*MLP, "strategy=consolidate"], "adapter=none: strategy=consolidate merges fast weights that add"),
        ([*NANO, "strategy=consolidate", "adapter.reset=sequence"], "adapter.reset=sequence: strategy=consolidate"),
        ([*NANO, "strategy=consolidate", "strategy.share=2"], "strategy.share=2: must lie between 0 (nothing) and 1"),
        ([*NANO, "strategy=consolidate", "strategy.rank=0"], "strategy.rank=0: must be at least 1"),
        ([*NANO, "strategy=consolidate", "strategy.every=tsk"], "strategy.every=tsk: unknown; did you mean task?"),
        ([*NANO, "strategy=consolidate", "task=drift-sequence"], "strategy=consolidate: needs tasks that are"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_work_is_refused(job, said):
    with pytest.raises(ValueError, match=re.escape(said)) as refusal:
        make(*job)
    assert "\n" not in str(refusal.value)


def test_a_user_reads_one_line_and_finds_no_folder(tmp_path):
    # The longest way to a refusal: it takes the model and the optimizer to know.
    outcome = run_apart([*MLP, *EACH, "strategy@also=redo"], tmp_path)
    assert outcome.code == 2
    assert "strategy=redo: weights of layers.0 are not learned" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["strategy=l2_init", "strategy@also=layer_reset", "also.last=4"], "also.last=4: must lie between 1"),
        (["strategy=l2_init", "strategy@also=lora_task", "also.layers=[hed]"], 'also.layers=["hed"]: no linear layer'),
        (["strategy=layer_reset", "strategy.last=4", "strategy@also=l2_init"], "strategy.last=4: must lie between 1"),
    ],
)
def test_a_strategy_refuses_in_the_words_that_were_typed_for_it(typed, said):
    """Also what it takes the model, or the engine, to know."""
    with pytest.raises(ValueError, match="^" + re.escape(said)):
        make(*MLP, *typed)


@pytest.mark.parametrize("typed", [["strategy=naive"], ["strategy=replay"], ["strategy=olora", "strategy@also=l2"]])
def test_a_run_is_assembled_from_one_network(typed, monkeypatch):
    """Strategies refuse what they cannot serve by looking at the learner, not by rehearsing on another one."""
    built, build = [], ttt.run.assemble.build_learner
    monkeypatch.setattr(ttt.run.assemble, "build_learner", lambda *a, **k: built.append(1) or build(*a, **k))
    if "strategy@also=l2" in typed:
        with pytest.raises(ValueError, match="also=l2"):
            assemble(_composed(*TINY, *FAST, *typed), trusted=[])
        return
    assemble(_composed(*TINY, *FAST, *typed), trusted=[])
    assert len(built) == 1


def test_an_optimizer_that_cannot_serve_the_model_is_refused_before_a_base_is_trained():
    job = ["source=digits", "model=mlp", "model.widths=[]", "adapter=none", "task.num_tasks=2", "optimizer=muon"]
    with pytest.raises(ValueError, match="optimizer=muon: the model has no hidden matrices"):
        assemble(_composed(*ENVIRONMENT, *job, "base=pretrain", "task.classes_per_task=2"), trusted=[])


def test_what_a_strategy_takes_before_and_after_tasks_is_a_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(Naive, "begin_task", lambda self, engine, index: time.sleep(0.1))
    monkeypatch.setattr(Naive, "end_task", lambda self, engine, index: time.sleep(0.05))
    assert run_here(MLP, tmp_path).code == 0
    status = json.loads((only_run(tmp_path) / "status.json").read_text())
    assert status["strategy_seconds_between_tasks"] >= 3 * 0.15


# Hidden units


@pytest.mark.parametrize(
    ("setting", "optimizer"),
    [
        (MLP, ("optimizer=sgd", "optimizer.momentum=0.9")),
        (MLP, ("optimizer=adamw",)),
        (MLP, ("optimizer=adafactor",)),
        (NANO, ("optimizer=adamw",)),
        (NANO, ("optimizer=muon",)),
    ],
)
def test_a_new_unit_is_fresh_going_in_and_silent_going_out_and_nothing_else_moves(setting, optimizer):
    assembly, engine = make(
        *(o for o in setting if not o.startswith("optimizer")), *optimizer, *CBP, "strategy.maturity=99"
    )
    learn_task(engine, assembly, 0)
    before, moments = weights(engine), _moments(engine)
    fast = {name: x.clone() for name, x in engine.learner.fast.items()}
    layers, chosen = hidden_units(engine.learner.model), {0: torch.tensor([1, 5]), 1: torch.tensor([2])}
    assembly.recipe.strategy.renew(engine, chosen)
    touched = {name: torch.zeros_like(x, dtype=torch.bool) for name, x in before.items()}
    names = {id(p): name for name, p in engine.learner.model.named_parameters()}
    for number, units in chosen.items():
        for linear in layers[number].incoming:
            touched[names[id(linear.weight)]][units] = True
            assert not torch.equal(linear.weight[units], before[names[id(linear.weight)]][units])
            if linear.bias is not None:
                touched[names[id(linear.bias)]][units] = True
                assert not linear.bias[units].any()
        touched[names[id(layers[number].weight_out)]][:, units] = True
        assert not layers[number].weight_out[:, units].any()
        for key, x in engine.learner.fast.items():
            if key.startswith(f"{layers[number].name}."):
                assert fast[key][..., units].any()
                assert not x[..., units].any()
                fast[key][..., units] = 0
    for name, x in weights(engine).items():
        assert torch.equal(x[~touched[name]], before[name][~touched[name]])
        for key, moment in _moments(engine).get(name, {}).items():
            if moment.shape == x.shape:
                assert moments[name][key][touched[name]].any() == touched[name].any()
                assert not moment[touched[name]].any()
                assert torch.equal(moment[~touched[name]], moments[name][key][~touched[name]])
            elif moment.dim() == x.dim() == 2:
                # Adafactor's: of rows [F, 1] or of columns [1, D].
                whole = (
                    touched[name].all(1, keepdim=True) if moment.shape[1] == 1 else touched[name].all(0, keepdim=True)
                )
                assert not moment[whole].any()
                assert torch.equal(moment[~whole], moments[name][key][~whole])
    assert all(torch.equal(x, fast[key]) for key, x in engine.learner.fast.items())


def _moments(engine: Engine) -> dict[str, dict[str, Tensor]]:
    names = {id(p): name for name, p in engine.learner.model.named_parameters()}
    state = engine.optimizer.state
    return {
        names[id(p)]: {key: x.clone() for key, x in state[p].items() if isinstance(x, Tensor) and x.dim()}
        for p in state
    }


def test_new_units_have_the_spread_of_the_start():
    assembly, engine = make(*MLP, "model.widths=[400]", *CBP)
    (layer,) = hidden_units(engine.learner.model)
    start = float(layer.incoming[0].weight.detach().std())
    learn_task(engine, assembly, 0)
    with torch.no_grad():
        layer.incoming[0].weight.mul_(50)
    assembly.recipe.strategy.renew(engine, {0: torch.arange(400)})
    assert float(layer.incoming[0].weight.detach().std()) == pytest.approx(start, rel=0.05)
    assert float(layer.incoming[0].weight.detach().mean()) == pytest.approx(0, abs=start / 20)


def test_continual_backprop_is_the_papers_loop_over_units():
    """Utilities, ages and who goes, unit by unit in plain Python, over 12 steps."""
    rate, maturity, decay = 0.1, 2, 0.8
    assembly, engine = make(*MLP, *CBP, f"strategy.decay={decay}", "task.steps_per_task=12")
    strategy, layers = assembly.recipe.strategy, hidden_units(engine.learner.model)
    utility = [[0.0] * layer.weight_out.shape[1] for layer in layers]
    age, due, total = [[0] * len(u) for u in utility], [0.0, 0.0], 0
    gone: list[tuple[int, list[int]]] = []
    renew: Callable[..., None] = strategy.renew

    def watched(engine, chosen):
        gone.extend((number, units.tolist()) for number, units in chosen.items())
        renew(engine, chosen)

    strategy.renew = watched
    phase = assembly.stream.phases[0]
    for step in range(12):
        with listening(layers) as heard:
            # The weights that the utility sees are those after the step, before anyone is replaced.
            before, gone[:] = copy.deepcopy(engine), []
            list(train(engine, One(phase.batch(step)), recipe=assembly.recipe, steps=1, report_every=1))
        after = _plain_step(before, phase.batch(step))
        expected = []
        for number, layer in enumerate(layers):
            for f in range(len(utility[number])):
                now = float(heard[layer.name][:, f].abs().mean()) * float(after[number][:, f].abs().sum())
                utility[number][f] = decay * utility[number][f] + (1 - decay) * now
                age[number][f] += 1
            mature = [f for f, a in enumerate(age[number]) if a > maturity]
            due[number] += rate * len(mature)
            count = int(due[number])
            due[number] -= count
            ranked = sorted(mature, key=lambda f: utility[number][f] / (1 - decay ** age[number][f]))
            if count:
                expected.append((number, sorted(ranked[:count])))
            for f in ranked[:count]:
                utility[number][f], age[number][f] = 0.0, 0
            total += count
        assert [(number, sorted(units)) for number, units in gone] == expected
        for number in range(2):
            assert strategy.utility[number].tolist() == pytest.approx(utility[number], rel=1e-4, abs=1e-9)
            assert strategy.age[number].tolist() == age[number]
    assert strategy.terms()["replaced"] == total > 10


class One:
    """A task of one batch."""

    name = "one"

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def batch(self, step: int) -> Batch:
        return self._batch


def _plain_step(engine: Engine, batch) -> list[Tensor]:
    """Outgoing weights after one SGD step of a copy, which has no strategy."""
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
        with listening(layers) as heard:
            terms += [
                p.terms for p in train(engine, One(phase.batch(step)), recipe=assembly.recipe, steps=1, report_every=1)
            ]
        batches.append(dict(heard))
    heard = {layer.name: torch.cat([one[layer.name] for one in batches]) for layer in layers}
    assert terms[-1]["dormant"] == pytest.approx(dormant_tau([heard[layer.name] for layer in layers], tau=0.2))
    assert [t["recycled"] for t in terms[:-1]] == [0] * 5

    def quiet(one):
        return sum(int((one[x.name].abs().mean(0) <= 0.2 * one[x.name].abs().mean()).sum()) for x in layers)

    assert terms[-1]["recycled"] == quiet(heard) >= 2
    # Units that are silent on the few rows of one batch are well.
    assert quiet(batches[-1]) > quiet(heard)
    silent = (layers[0].weight_out.detach() == 0).all(0).nonzero().flatten().tolist()
    assert {3, 7} <= set(silent)
    assert len(silent) < 16
    # They learn again: both ways are open after some more steps.
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
    """The memory of agem, the slow-only pass of distill: units are judged by what they give on the batch."""
    assembly, engine = make(*job)
    learn_task(engine, assembly, 0)
    begin_task(engine, assembly, 1)
    layers, batch = hidden_units(engine.learner.model), assembly.stream.phases[1].batch(0)
    passes: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    for layer in layers:
        layer.outgoing.register_forward_pre_hook(
            lambda _, args, name=layer.name: passes[name].append(args[0].detach().flatten(0, -2).clone())
        )
    list(train(engine, One(batch), recipe=assembly.recipe, steps=1, report_every=1))
    heard = assembly.recipe.strategy._parts[0].heard
    for layer in layers:
        # The first pass of a step is that of the batch.
        first, *others = passes[layer.name]
        assert torch.equal(heard[layer.name], first)
        assert others
    # Below the last layer fast weights may have changed nothing yet.
    assert not any(first.shape == other.shape and torch.equal(first, other) for other in others)


@SETTINGS
def test_units_are_heard_in_training_only_and_never_through_a_copy(setting):
    assembly, engine = make(*setting)
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


# Fast weights that become slow


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
    others = {name for name, x in weights(engine).items() if not torch.equal(x, before[name])}
    assert others == {f"layers.{i}.mlp.down_proj.weight" for i in range(2)}


def test_a_rank_is_the_nearest_of_that_rank():
    s_DF = torch.randn(7, 5)
    sigma = torch.linalg.svdvals(s_DF)
    for rank in range(1, 7):
        near_DF = truncated(s_DF, rank=rank)
        assert torch.linalg.matrix_rank(near_DF) == min(rank, 5)
        torch.testing.assert_close((s_DF - near_DF).square().sum(), sigma[rank:].square().sum(), atol=1e-5, rtol=1e-5)
    assert truncated(s_DF, rank=None) is s_DF


def test_merging_slowly_needs_no_boundaries_and_none_of_it_adapts_alone():
    assembly, engine = make(*NANO, *ALL["consolidate-slowly"], "task=drift-sequence")
    phase, before = assembly.stream.phases[0], weights(engine)
    terms = [p.terms for p in train(engine, phase, recipe=assembly.recipe, steps=phase.steps, report_every=1)]
    assert all(t["merged"] > 0 for t in terms)
    assert not torch.equal(weights(engine)["layers.0.mlp.down_proj.weight"], before["layers.0.mlp.down_proj.weight"])


def test_gradients_through_what_is_read_only():
    """The same numbers forward; backward, what is written counts as given, and what makes it is not learned."""
    found = {}
    for through in ("true", "false"):
        assembly, engine = make(*NANO, f"adapter.through_writes={through}")
        learner, batch = engine.learner, assembly.stream.phases[0].batch(0)
        engine.fabric.backward(loss := loss_of(learner, assembly.recipe, batch, step=0))
        gradients = {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}
        found[through] = (float(loss.detach()), learner.fast, gradients)
    (loss, fast, whole), (same, same_fast, part) = found["true"], found["false"]
    assert loss == same
    assert all(torch.equal(x, same_fast[key]) for key, x in fast.items())
    makers = {f"layers.{i}.mlp.down_proj.{x}" for i in range(2) for x in ("log_step", "conv_OD", "target_DD")}
    assert set(whole) - set(part) == makers
    assert not torch.equal(whole["layers.0.mlp.up_proj.weight"], part["layers.0.mlp.up_proj.weight"])
    torch.testing.assert_close(whole["norm.weight"], part["norm.weight"])


@pytest.mark.parametrize("rule", [("adapter.rule=delta",), ("adapter.centre=true",), ("adapter.source=hidden",)])
def test_gradients_through_reads_are_those_of_constant_writes(rule):
    """Writes handed in as numbers, from a pass before: the same gradient."""
    assembly, engine = make(*NANO, "adapter.through_writes=false", *rule)
    learner, batch = engine.learner, assembly.stream.phases[0].batch(0)
    last = learner.model.layers[1].mlp.down_proj
    kept = []
    make_writes = last._writes
    last._writes = lambda *given: kept.append(make_writes(*given)) or kept[-1]
    first = torch.autograd.grad(loss_of(learner, assembly.recipe, batch, step=0), last.weight)[0]
    assert not any(x.requires_grad for x in (kept[0][0].k_BNCF, kept[0][0].v_BNCD))
    assert kept[0][0].q_BNCF.requires_grad
    last._writes = lambda *given: kept[0]
    learner.fast = learner.adapter.initial()
    torch.testing.assert_close(
        torch.autograd.grad(loss_of(learner, assembly.recipe, batch, step=0), last.weight)[0], first
    )


def test_a_base_is_shared_with_and_without_gradients_through_writes():
    configs = [make(*NANO, f"adapter.through_writes={x}")[0].config["adapter"] for x in ("true", "false")]
    assert configs[0] != configs[1]
    assert base_adapter(configs[0]) == base_adapter(configs[1])


# Low-rank updates


@SETTINGS
@pytest.mark.parametrize("strategy", ["lora_task", "olora"])
def test_an_update_is_a_matrix_added_to_w0_and_all_else_is_frozen(strategy, setting):
    assembly, engine = make(*setting, *ALL[strategy], "strategy.alpha=3")
    _, plain = make(*setting)
    batch = assembly.stream.tasks[0].evaluation()
    assert torch.equal(read(engine, batch), read(plain, batch))
    learn_task(engine, assembly, 0, ends=False)
    assert not torch.allclose(read(engine, batch), read(plain, batch), atol=1e-4)
    modules, own = dict(engine.learner.model.named_modules()), dict(plain.learner.model.named_parameters())
    updates = {name.removesuffix(".lora"): m for name, m in modules.items() if isinstance(m, LowRank)}
    linear = [n for n, m in plain.learner.model.named_modules() if isinstance(getattr(m, "weight", None), Tensor)]
    assert set(updates) == {n for n in linear if "norm" not in n and "embed" not in n}
    with torch.no_grad():
        for name, update in updates.items():
            assert update.b_OR.any()
            own[f"{name}.weight"].add_(3 / 2 * update.b_OR @ update.a_RI)
    torch.testing.assert_close(read(engine, batch), read(plain, batch), atol=1e-5, rtol=1e-4)
    _, start = make(*setting)
    for name, x in weights(start).items():
        assert torch.equal(x, weights(engine)[name])


def test_layers_by_name():
    _, engine = make(*NANO, *EACH, "strategy.layers=[down_proj,layers.1.self_attn]")
    names = {name.rpartition(".lora")[0] for name, p in engine.learner.model.named_parameters() if p.requires_grad}
    assert names == {"layers.0.mlp.down_proj", "layers.1.mlp.down_proj"} | {
        f"layers.1.self_attn.{x}" for x in ("qkv_proj", "o_proj")
    }


@SETTINGS
def test_one_update_a_task_forgets_nothing_where_the_test_tells_the_task(setting):
    assembly, engine = make(*setting, *EACH)
    batches, modes = [task.evaluation() for task in assembly.stream.tasks], ("slow", "fast")
    base = evaluate(engine, batches, recipe=assembly.recipe, tasks=[0, 1, 2])
    after = []
    for index in range(3):
        learn_task(engine, assembly, index)
        after.append(evaluate(engine, batches, recipe=assembly.recipe, tasks=[0, 1, 2]))
    for mode in modes:
        loss = [row[mode]["loss"] for row in after]
        # Bit by bit: of each task what it was when it was learned, and before that what the base knew.
        assert [loss[2][j] for j in range(3)] == [loss[j][j] for j in range(3)]
        assert loss[0][1:] == base[mode]["loss"][1:]
        assert loss[0][0] < base[mode]["loss"][0]
    # The base, and whoever is not told, see W0 and the last update.
    nothing = evaluate(engine, batches, recipe=assembly.recipe, tasks=[None] * 3)
    assert nothing["slow"]["loss"] == base["slow"]["loss"]
    assert evaluate(engine, batches, recipe=assembly.recipe)["slow"]["loss"][0] != after[2]["slow"]["loss"][0]
    assert evaluate(engine, batches, recipe=assembly.recipe)["slow"]["loss"][2] == after[2]["slow"]["loss"][2]


def test_a_shared_update_is_read_whatever_the_task():
    assembly, engine = make(*MLP, *ALL["lora_task"])
    learn_task(engine, assembly, 0)
    batches = [task.evaluation() for task in assembly.stream.tasks]
    found = [
        evaluate(engine, batches, recipe=assembly.recipe, tasks=tasks)["slow"]["loss"]
        for tasks in ([], [None] * 3, [0, 1, 2])
    ]
    assert found[0] == found[1] == found[2]


def test_a_task_that_comes_back_goes_on_from_its_update():
    assembly, engine = make(*MLP, *EACH)
    for index in range(2):
        learn_task(engine, assembly, index)
    first = [a.clone() for a, _ in assembly.recipe.strategy._kept[0]]
    begin_task(engine, assembly, 0)
    assert all(torch.equal(update.a_RI, a) for update, a in zip(assembly.recipe.strategy.updates, first, strict=True))
    assert not engine.optimizer.state


def test_olora_adds_the_gradient_of_its_penalty_and_pushes_updates_apart():
    assembly, engine = make(*MLP, *ALL["olora"], "strategy.coefficient=0.01")
    strategy = assembly.recipe.strategy
    learn_task(engine, assembly, 0)
    earlier = [[x.clone()] for x in strategy._earlier]
    learn_task(engine, assembly, 1)
    for found, update in zip(earlier, strategy._earlier, strict=True):
        found.append(update[2:])
        assert torch.equal(update[:2], found[0])
    # In autograd, of a made-up A.
    for update in strategy.updates:
        update.a_RI.data.normal_()
        update.a_RI.grad = torch.zeros_like(update.a_RI)
        update.b_OR.grad = torch.zeros_like(update.b_OR)
    value = 0.01 * sum(
        (a_RI @ update.a_RI.T).abs().sum()
        for rows, update in zip(earlier, strategy.updates, strict=True)
        for a_RI in rows
    )
    expected = torch.autograd.grad(value, [update.a_RI for update in strategy.updates])
    strategy.gradients(engine)
    for update, gradient in zip(strategy.updates, expected, strict=True):
        torch.testing.assert_close(update.a_RI.grad, gradient)
    assert strategy.penalty() == pytest.approx(float(value.detach()), rel=1e-5)
    overlap = [_overlap(coefficient) for coefficient in ("0", "0.1")]
    assert overlap[1] < overlap[0] / 2


def _overlap(coefficient: str) -> float:
    assembly, engine = make(*MLP, *ALL["olora"], f"strategy.coefficient={coefficient}", "task.steps_per_task=60")
    for index in range(2):
        learn_task(engine, assembly, index)
    return sum(float((x[:2] @ x[2:].T).abs().sum()) for x in assembly.recipe.strategy._earlier)


@SETTINGS
def test_a_finished_update_of_olora_stays_in_w0(setting):
    assembly, engine = make(*setting, *ALL["olora"])
    learn_task(engine, assembly, 0, ends=False)
    batch, carried = assembly.stream.tasks[0].evaluation(), engine.shared_fast()
    before = read(engine, batch, carried)
    assembly.recipe.strategy.end_task(engine, 0)
    torch.testing.assert_close(read(engine, batch, carried), before, atol=1e-5, rtol=1e-4)
    assert not any(update.b_OR.any() for update in assembly.recipe.strategy.updates)
    assert not engine.optimizer.state


def test_strategies_go_together(tmp_path: Path):
    job = [*MLP, *CBP, "strategy@also=l2_init", "also.coefficient=0.01"]
    assert run_here(job, tmp_path).code == 0
    assembly, engine = make(*MLP, "strategy=lora_task", "strategy@also=l2_init", "also.coefficient=1")
    alone_assembly, alone = make(*MLP, "strategy=lora_task")
    assert learn_task(engine, assembly, 0)[-1].terms["l2_init.penalty"] > 0
    learn_task(alone, alone_assembly, 0)
    assert slow_hash(engine.learner.model) != slow_hash(alone.learner.model)


def test_one_update_for_the_whole_stream_is_learned_again_as_weights_are():
    # Updates of each task are refused, alone or as one of two.
    again = ("strategy=lora_task", "eval.anytime=1", "eval.savings=true")
    assembly, _ = make(*MLP, *again)
    assert assembly.plan.savings
    for pair in (
        [*again, "strategy.per=task"],
        ["strategy=naive", "strategy@also=lora_task", "also.per=task", *again[1:]],
    ):
        with pytest.raises(ValueError, match="has weights for each task"):
            make(*MLP, *pair)


def test_what_replaces_weights_begins_and_ends_before_what_keeps_them():
    assembly, engine = make(*MLP, "strategy=independent", "strategy@also=lora_task")
    assembly.recipe.strategy.begin_task(engine, 0)
    updates = [x for name, x in engine.learner.model.named_parameters() if "a_RI" in name]
    # Zeros on both sides of an update would learn nothing, ever.
    assert updates
    assert all(bool(x.any()) for x in updates)
    assert assembly.recipe.strategy.is_fresh
    for first, second in (("l2", "consolidate"), ("consolidate", "l2")):
        assembly, engine = make(*NANO, "adapter=mlp_fast", "adapter.chunk=4", "adapter.reset=task", f"strategy={first}",
                         f"strategy@also={second}")  # fmt: skip
        both = assembly.recipe.strategy
        assert [part.name for part in both._in_turn] == ["consolidate", "l2"]
