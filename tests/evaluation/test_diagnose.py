"""Diagnostics on the probe batch: numbers against their definition, and that nothing is touched."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import settings
import torch
import torch.nn.functional as F
from assembling import assembled
from harness import FAST, SMALL, only_run, run_here
from learning import engine_of, losses_of

from ttt.cli.tables import views
from ttt.compare.groups import group_runs
from ttt.compare.runs import read_run
from ttt.evaluation.diagnose import PROBE_TOKENS, Diagnosis, beginnings
from ttt.learner import competing, slow_hash
from ttt.metrics import plasticity
from ttt.models.units import hidden_units
from ttt.report.drawings import comparison_drawings
from ttt.results import catalogue
from ttt.storage.checkpoint import rng_tensors
from ttt.stream import IGNORE, Batch

NANO = (*SMALL, *FAST, "base=none", "adapter.reset=never")
STATIC = (*SMALL, "adapter=none", "base=none")
MLP = (*settings.MLP, "model.widths=[24,16]")


def probed(overrides):
    """Return an assembly, its engine, and a diagnosis at the base."""
    assembly = assembled(*overrides)
    engine = engine_of(assembly)
    return assembly, engine, Diagnosis.at_base(engine, assembly.stream, strategy=assembly.recipe.strategy)


@pytest.mark.parametrize("overrides", [NANO, STATIC, MLP], ids=["nano", "static", "mlp"])
def test_it_only_reads(overrides):
    assembly, engine, diagnosis = probed(overrides)
    losses_of(engine, assembly, 0, steps=3)
    learner = engine.learner
    # In the middle of an accumulation one gradient is there and another is not.
    first, *others = engine.order
    first.grad = torch.ones_like(first)
    others[0].grad = None
    gradient = first.grad
    fast = {name: x.clone() for name, x in learner.fast.items()}
    before = slow_hash(learner.model), rng_tensors()["cpu"]
    numbers = diagnosis.measure(engine)
    assert numbers["probe/all/grad_l2"] > 0
    assert slow_hash(learner.model) == before[0]
    assert torch.equal(rng_tensors()["cpu"], before[1])
    assert all(torch.equal(x, learner.fast[name]) for name, x in fast.items())
    assert first.grad is gradient
    assert torch.equal(gradient, torch.ones_like(first))
    assert others[0].grad is None
    assert learner.training
    assert diagnosis.measure(engine) == numbers


def test_numbers_are_what_their_names_say():
    assembly, engine, diagnosis = probed(STATIC)
    losses_of(engine, assembly, 0, steps=3)
    numbers = diagnosis.measure(engine)
    learner, inputs = engine.learner, {}
    for layer in hidden_units(learner.model):
        layer.outgoing.register_forward_pre_hook(lambda _, args, name=layer.name: inputs.update({name: args[0]}))
    logits = learner(diagnosis.probe, {})[0]
    targets = diagnosis.probe.targets_BT
    loss = F.cross_entropy(competing(logits, diagnosis.probe).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    loss.backward()
    gradient = math.sqrt(sum(float(p.grad.double().square().sum()) for p in learner.parameters() if p.grad is not None))
    assert numbers["probe/all/grad_l2"] == pytest.approx(gradient)
    assert list(inputs) == ["layers.0.mlp", "layers.1.mlp"]
    for name, h in inputs.items():
        h = h.detach().flatten(0, -2)
        assert len(h) <= PROBE_TOKENS
        activity = h.double().abs().mean(0)
        dormant = float((activity / activity.mean() <= 0.1).double().mean())
        assert numbers[f"probe/{name}/dormant_tau0.1"] == pytest.approx(dormant)
        assert numbers[f"probe/{name}/dead_zero"] == 0
        sigma = torch.linalg.svdvals(h[:: -(-len(h) // 256)].double())
        assert numbers[f"probe/{name}/stable_rank"] == pytest.approx(float((sigma**2).sum() / sigma[0] ** 2))
        assert 1 < numbers[f"probe/{name}/erank"] <= min(h.shape)
    total = math.sqrt(sum(float(p.detach().double().square().sum()) for p in learner.model.parameters()))
    assert numbers["probe/all/weight_l2"] == pytest.approx(total)
    gate = learner.model.layers[0].mlp.gate_proj.weight.detach().double()
    rms = float(gate.square().mean().sqrt())
    assert numbers["probe/layers.0.mlp.gate_proj.weight/weight_rms"] == pytest.approx(rms)
    assert not [name for name in numbers if "fast_" in name]


def test_dead_units_are_counted():
    _, engine, diagnosis = probed(MLP)
    layer = engine.learner.model.layers[1]
    with torch.no_grad():
        layer.bias[:4] = -1e6
    numbers = diagnosis.measure(engine)
    assert numbers["probe/layers.1/dead_zero"] >= 4 / 16
    assert numbers["probe/layers.1/dormant_tau0"] >= 4 / 16
    with torch.no_grad():
        layer.bias[:] = -1e6
    dead = diagnosis.measure(engine)
    assert dead["probe/layers.1/dead_zero"] == dead["probe/layers.1/dormant_tau0.1"] == 1
    assert dead["probe/layers.1/erank"] == 0
    assert dead["probe/all/grad_l2"] < numbers["probe/all/grad_l2"]


def test_drift_is_zero_at_the_base_and_grows_with_learning():
    assembly, engine, diagnosis = probed(NANO)
    drifts = []
    for _ in range(3):
        numbers = diagnosis.measure(engine)
        drifts.append([numbers[f"drift/{mode}/kl_base"] for mode in ("slow", "fast")])
        losses_of(engine, assembly, 0, steps=6)
    assert drifts[0] == pytest.approx([0, 0], abs=1e-9)
    assert all(a < b < c for a, b, c in zip(*drifts, strict=True))
    assert drifts[1][0] != drifts[1][1]
    # By hand, in mode slow.
    with torch.no_grad():
        engine.learner.eval()
        now = engine.learner(diagnosis.probe, engine.learner.adapter.initial(), write=False)[0]
    scored = diagnosis.probe.targets_BT != IGNORE
    logs = [x.double().log_softmax(-1) for x in (diagnosis.base_logits["slow"], now[scored])]
    by_hand = float((logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean()) / math.log(2)
    engine.learner.train()
    assert diagnosis.measure(engine)["drift/slow/kl_base"] == pytest.approx(by_hand)


def test_without_a_base_distribution_there_is_no_drift():
    assembly, engine, _ = probed(MLP)
    diagnosis = Diagnosis.at_base(engine, replace(assembly.stream, base=None), strategy=assembly.recipe.strategy)
    numbers = diagnosis.measure(engine)
    assert diagnosis.task == 0
    assert not [name for name in numbers if name.startswith("drift")]
    assert torch.equal(diagnosis.probe.tokens_BT[0], assembly.stream.tasks[0].evaluation().tokens_BT[0])


def test_fast_matrices_have_ranks_once_something_is_written():
    assembly, engine, diagnosis = probed(NANO)
    blank = diagnosis.measure(engine)
    name = "layers.0.mlp.memory"
    assert math.isnan(blank[f"probe/{name}/fast_erank"])
    assert math.isnan(blank[f"probe/{name}/fast_over_w0"])
    losses_of(engine, assembly, 0, steps=3)
    numbers, state = diagnosis.measure(engine), engine.learner.fast[name]
    assert numbers[f"probe/{name}/fast_stable_rank"] == pytest.approx(plasticity.ranks(state[0])["stable_rank"])
    weight = engine.learner.model.layers[0].mlp.down_proj.weight.detach()
    assert numbers[f"probe/{name}/fast_over_w0"] == pytest.approx(float(state[0].norm() / weight.norm()))
    _, other, fresh = probed([*SMALL, *FAST, "base=none", "adapter.reset=sequence"])
    assert not [key for key in fresh.measure(other) if "fast_" in key]


def test_frozen_weights_have_no_gradient():
    _, engine, diagnosis = probed(STATIC)
    for parameter in engine.order:
        parameter.requires_grad_(False)
    assert math.isnan(diagnosis.measure(engine)["probe/all/grad_l2"])


def batch(rows, length, scored):
    targets = torch.full((rows, length), IGNORE)
    targets[:, scored] = 1
    tokens = torch.arange(rows)[:, None].expand(rows, length)
    return Batch(tokens, targets, torch.zeros(rows, length, dtype=torch.int64))


def test_a_probe_is_spread_over_rows_and_holds_something_to_score():
    short = beginnings(batch(100, 16, slice(None)), tokens=512)
    assert short.tokens_BT.shape == (32, 16)
    assert short.tokens_BT[:, 0].tolist() == sorted(set(short.tokens_BT[:, 0].tolist()))
    assert (short.tokens_BT[0, 0], short.tokens_BT[-1, 0]) == (0, 99)
    long = beginnings(batch(100, 1000, slice(None)), tokens=512)
    assert long.tokens_BT.shape == (4, 128)
    # A label at the end of a long row: rows are whole.
    label = beginnings(batch(100, 300, slice(299, 300)), tokens=512)
    assert label.tokens_BT.shape == (1, 300)
    assert int((label.targets_BT != IGNORE).sum()) == 1
    few = beginnings(batch(2, 16, slice(None)), tokens=512)
    assert few.tokens_BT.shape == (2, 16)


def test_diagnostics_can_be_turned_off(tmp_path):
    assert run_here([*STATIC, "eval.diagnostics=false"], tmp_path).code == 0
    rows = json.loads((only_run(tmp_path) / "results.json").read_text())["rows"]
    assert [row["diagnostics"] for row in rows] == [{}] * 4


def test_a_run_keeps_them_in_journal_and_results(tmp_path):
    assert run_here([*STATIC], tmp_path).code == 0
    folder = only_run(tmp_path)
    content = json.loads((folder / "results.json").read_text())
    assert all(row["diagnostics"]["probe/layers.1.mlp/erank"] > 1 for row in content["rows"])
    assert content["rows"][0]["diagnostics"]["drift/slow/kl_base"] < 1e-9
    last = content["rows"][-1]["diagnostics"]
    assert content["metrics"]["slow/drift/kl_base"] == last["drift/slow/kl_base"] > 1e-6
    ranks = [last[f"probe/layers.{k}.mlp/erank"] for k in (0, 1)]
    assert content["metrics"]["slow/plasticity/erank"] == pytest.approx(sum(ranks) / 2)
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    in_journal = [event["diagnostics"] for event in events if event["event"] == "evaluated"]
    assert in_journal == [row["diagnostics"] for row in content["rows"]]
    comparison(folder)


def comparison(folder):
    """Check the same numbers as ttt-compare and the page of several runs read them."""
    groups = group_runs([read_run(folder)])
    sheet = views.curve_view(groups, "slow/plasticity/erank").sheet
    rows = [cells[0].interval.mean for _, cells in sheet.rows]
    assert rows == catalogue.after_each_row(read_run(folder).results, "slow/plasticity/erank")
    assert len(rows) == 4
    assert views.matching_metrics(groups, ["*/drift/*"]) == ["fast/drift/kl_base", "slow/drift/kl_base"]
    drawn = [drawing.name for drawing in comparison_drawings(groups, groups, "", None)]
    assert {"curve-dormant", "curve-rank", "curve-weights", "curve-gradient", "curve-drift"} <= set(drawn)
    with pytest.raises(ValueError, match="'plastcity' is unknown"):
        views.curve_view(groups, "slow/plastcity/erank")
