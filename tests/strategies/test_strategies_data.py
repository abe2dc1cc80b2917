"""Strategies that change what is read or compare outputs: each against a naive form, in effect, resumed, refused.

Shapes: B rows, T time, V outputs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import FAST, SMALL, only_run, run_here
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from learning import begin_task, learn_task
from omegaconf import OmegaConf
from streams import stream_to_the_end

from ttt.learner import Engine, cross_entropy, slow_hash
from ttt.results.rows import plain
from ttt.run.assemble import Assembly, assemble
from ttt.strategies.agem import project
from ttt.strategies.der import packed, squared_distance
from ttt.strategies.memory import Memory, padded
from ttt.strategies.reservoir import Reservoir
from ttt.strategies.teacher import distillation_loss, teacher_weights, weights_of
from ttt.stream import IGNORE, Batch
from ttt.training.train import NonFiniteError, loss_of, train

STEPS = 6
DIGITS = (
    "model=mlp", "model.widths=[32]", "source=digits", "adapter=none", "base=none", "optimizer=sgd",
    "optimizer.lr=0.1", "task.num_tasks=3", f"task.steps_per_task={STEPS}", "task.batch_size=8", "trainer.threads=1",
    "task.eval_sequences=all", "trainer.precision=32-true", "trainer.accelerator=cpu", "logger=none", "report=false",
    "trainer.report_every=1",
)  # fmt: skip
PERMUTED = (*DIGITS, "task=permuted-sequence", "task.permute=positions")
SPLIT = (*DIGITS, "task=split-sequence", "task.classes_per_task=2")
TOKENS = (*(o for o in SMALL if not o.startswith("task.steps")), "base=none", f"task.steps_per_task={STEPS}")
LEARNING = {
    "joint": (), "cumulative": (), "independent": (), "frozen": (), "replay": ("strategy.size=12",),
    "der": ("strategy.size=12",), "agem": ("strategy.size=12",), "lwf": (), "distill": (),
}  # fmt: skip
# What replays or compares in the first task has nothing to do there.
FROM_THE_SECOND = ("independent", "replay", "der", "agem", "lwf")


def make(job: tuple[str, ...], *overrides: str) -> Assembly:
    words = {o.split("=")[0]: o for o in (*job, *overrides)}
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=list(words.values()))
    return assemble(OmegaConf.to_container(config, resolve=True), trusted=[])


def ready(job: tuple[str, ...], *overrides: str) -> tuple[Assembly, Engine]:
    assembly = make(job, *overrides)
    return assembly, assembly.engine(assembly.settings.fabric(), None)


def job_of(name: str) -> tuple[str, ...]:
    return (*TOKENS, *FAST) if name == "distill" else PERMUTED


# ---- effect


@pytest.mark.parametrize("name", LEARNING)
def test_the_weights_are_not_those_of_naive(name):
    hashes = {}
    for strategy in ("naive", name):
        own = LEARNING[strategy] if strategy == name else ()
        assembly, engine = ready(job_of(name), f"strategy={strategy}", *own)
        learn_task(engine, assembly, 0)
        first = slow_hash(engine.learner.model)
        learn_task(engine, assembly, 1)
        hashes[strategy] = first, slow_hash(engine.learner.model)
    assert hashes[name][1] != hashes["naive"][1]
    # While there is nothing old, they are.
    assert (hashes[name][0] == hashes["naive"][0]) == (name in (*FROM_THE_SECOND, "cumulative"))


@pytest.mark.parametrize("job", [PERMUTED, SPLIT, (*TOKENS, *FAST), (*TOKENS, *FAST, "adapter.reset=never")])
@pytest.mark.parametrize("name", LEARNING)
def test_every_strategy_learns_on_vectors_and_on_tokens(name, job):
    if name == "distill" and job[0] == DIGITS[0]:
        pytest.skip("has no fast weights")
    assembly, engine = ready(job, f"strategy={name}", *LEARNING[name])
    for index in range(3):
        assert all(0 < progress.loss < 100 for progress in learn_task(engine, assembly, index))


@pytest.mark.parametrize(
    ("name", "own"), [("lwf", ["coefficient"]), ("distill", ["coefficient"]), ("der", ["alpha", "beta"])]
)
def test_a_term_is_positive_unless_its_weight_is_zero(name, own):
    for job in {job_of(name), (*TOKENS, *FAST)}:
        found = []
        for weight in ([], [f"strategy.{argument}=0" for argument in own]):
            assembly, engine = ready(job, f"strategy={name}", *weight)
            learn_task(engine, assembly, 0)
            learn_task(engine, assembly, 1)
            found.append((assembly.recipe.strategy.terms()["penalty"], slow_hash(engine.learner.model)))
        assert found[0][0] > 0 == found[1][0]
        assert found[0][1] != found[1][1]


@pytest.mark.parametrize(("name", "argument"), [("lwf", "coefficient"), ("distill", "coefficient"), ("der", "alpha")])
def test_a_penalty_that_diverges_stops_the_run_with_task_and_step(name, argument):
    typed = [f"strategy={name}", f"strategy.{argument}=1e30", "optimizer=sgd", "optimizer.lr=1", "optimizer.clip=null"]
    assembly, engine = ready(job_of(name), *typed)
    for index in range(2):
        error = stopped(assembly, engine, index)
        if error is not None:
            break
    assert error is not None
    assert " by step " in str(error)
    assert any(repr(task.name) in str(error) for task in assembly.stream.tasks)


def stopped(assembly: Assembly, engine: Engine, index: int) -> NonFiniteError | None:
    try:
        learn_task(engine, assembly, index)
    except NonFiniteError as error:
        return error
    return None


# ---- what is read


def rows_of(batches: list[Batch]) -> Counter[bytes]:
    return Counter(row.numpy().tobytes() for batch in batches for row in batch.tokens_BT)


@cache
def origins() -> dict[bytes, int]:
    plain = make(PERMUTED, "task.steps_per_task=one-pass").stream.phases
    return {row.numpy().tobytes(): i for i, p in enumerate(plain) for s in range(p.steps) for row in p.batch(s)[0]}


def phase_of_rows(batch: Batch) -> list[int]:
    """Which phase of the stream each row is from."""
    return [origins()[row.numpy().tobytes()] for row in batch.tokens_BT]


def test_joint_reads_what_naive_reads_as_often_and_evenly():
    plain = make(PERMUTED, "task.steps_per_task=one-pass").stream.phases
    assembly = make(PERMUTED, "task.steps_per_task=one-pass", "strategy=joint")
    joint = assembly.stream.phases
    assert [(p.name, p.task, p.steps) for p in joint] == [(p.name, p.task, p.steps) for p in plain]
    assert not any(p.announced for p in joint)
    both = [[p.batch(s) for p in phases for s in range(p.steps)] for phases in (plain, joint)]
    assert rows_of(both[0]) == rows_of(both[1])
    for batch in both[1][::40]:
        # 8 rows, 3 tasks.
        assert sorted(Counter(phase_of_rows(batch)).values()) == [2, 3, 3]


def test_cumulative_reads_evenly_from_all_phases_so_far_and_goes_on_in_each():
    assembly = make(PERMUTED, "task.steps_per_task=one-pass", "strategy=cumulative")
    phases = assembly.stream.phases
    assert all(p.announced for p in phases)
    seen: Counter[bytes] = Counter()
    for i, phase in enumerate(phases):
        batches = [phase.batch(step) for step in range(12)]
        count = Counter(origin for batch in batches for origin in phase_of_rows(batch))
        assert set(count) == set(range(i + 1))
        assert max(count.values()) - min(count.values()) <= 1
        seen += rows_of(batches)
    # The first phase goes through all of its rows: what comes later of it is its beginning again, not the end.
    assert max(seen.values()) <= 2


@pytest.mark.parametrize("name", ["joint", "cumulative"])
@pytest.mark.parametrize("job", [PERMUTED, (*TOKENS, "adapter=none"), (*SPLIT, "task.scenario=task")])
def test_a_mixed_batch_is_a_function_of_its_step(name, job):
    (one, other), steps = (make(job, f"strategy={name}").stream.phases for _ in range(2)), range(STEPS)
    asked = {(i, s): phase.batch(s) for i, phase in enumerate(one) for s in steps}
    for (i, s), batch in sorted(asked.items(), reverse=True):
        again = other[i].batch(s)
        assert all(x is y is None or torch.equal(x, y) for x, y in zip(batch, again, strict=True))
        assert len(batch.tokens_BT) == (8 if job[0] == DIGITS[0] else 2)
    assert job[-1] != "task.scenario=task" or asked[2, 0].outputs_BV.unique(dim=0).shape[0] > 1


def test_independent_learns_each_task_as_if_it_were_the_first():
    for job in (PERMUTED, (*TOKENS, *FAST, "adapter.reset=never", "optimizer=adamw")):
        assembly, engine = ready(job, "strategy=independent")
        for index in range(3):
            learned = learn_task(engine, assembly, index)
        alone, fresh = ready(job, "strategy=naive")
        phase = alone.stream.phases[2]
        losses = [p.loss for p in train(fresh, phase, recipe=assembly.recipe, steps=phase.steps, report_every=1)]
        assert losses == [p.loss for p in learned]
        assert slow_hash(fresh.learner.model) == slow_hash(engine.learner.model)


def test_a_fresh_network_has_the_schedule_of_the_first_task(tmp_path):
    job = [*PERMUTED, "strategy=independent", "optimizer.schedule=linear", "optimizer.over=stream"]
    assert run_here(job, tmp_path).code == 0
    lines = (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()
    told = [event for event in map(json.loads, lines) if event["event"] == "trained"]
    rates = {task: [event["lr"] for event in told if event["task"] == task] for task in (1, 3)}
    assert rates[1] == rates[3]
    assert rates[1][-1] < rates[1][0] or len(rates[1]) == 1


def test_frozen_learns_fast_and_not_slow():
    assembly, engine = ready((*TOKENS, *FAST, "adapter.reset=never"), "strategy=frozen")
    before = slow_hash(engine.learner.model)
    learn_task(engine, assembly, 0)
    assert slow_hash(engine.learner.model) == before
    assert any(bool(x.any()) for x in engine.learner.fast.values())


# ---- the memory


def algorithm_r(rows: int, size: int, random: np.ndarray) -> list[int]:
    kept: list[int] = []
    for n in range(rows):
        place = int(random[n] * (n + 1))
        if n < size:
            kept.append(n)
        elif place < size:
            kept[place] = n
    return kept


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 20), batch=st.integers(1, 9), batches=st.integers(1, 12), key=st.integers(0, 2**40))
def test_a_reservoir_is_algorithm_r(size, batch, batches, key):
    memory, twin = (Memory(size=size, groups=1, key=key) for _ in range(2))
    random = np.concatenate([twin._random(0, 2 * batch)[:batch] for _ in range(batches)])
    for i in range(batches):
        rows, places = memory.choose(0, rows=batch, phase=i)
        assert len(set(places.tolist())) == len(places)
        if len(rows):
            memory.put({"row": torch.from_numpy(rows + i * batch)}, places)
    kept = memory.columns["row"][: memory.filled].tolist()
    assert kept == algorithm_r(batch * batches, size, random)


def test_every_row_is_as_likely_to_be_kept():
    counts = np.zeros(60)
    for key in range(600):
        memory = Memory(size=12, groups=1, key=key)
        kept = np.zeros(12, np.int64)
        for i in range(10):
            rows, places = memory.choose(0, rows=6, phase=0)
            kept[places] = 6 * i + rows
        counts[kept] += 1
    # 120 of 600 expected, standard deviation 9.8: five of these.
    assert np.abs(counts - 120).max() < 49


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=8, max_size=40), st.integers(0, 99))
def test_groups_get_equal_shares(batches, key):
    """As equal as what was seen allows: a group that is short of its share has all its rows in memory."""
    memory = Memory(size=10, groups=4, key=key)
    for i, batch in enumerate(batches):
        memory.choose(np.array(batch), rows=5, phase=i)
    seen = Counter(g for batch in batches for g in batch)
    stored = Counter(memory._group_M.tolist())
    assert stored == Counter({g: int(n) for g, n in enumerate(memory._stored_G) if n})
    assert memory._seen_G.tolist() == [seen[g] for g in range(4)]
    for group in seen:
        assert stored[group] >= min(seen[group], max(stored.values()) - 1)


@pytest.mark.parametrize("balance", ["reservoir", "task", "class"])
def test_rows_in_memory_are_rows_of_the_stream_and_those_drawn_are_of_earlier_tasks(balance):
    assembly, engine = ready(
        PERMUTED, "strategy=replay", "strategy.size=30", f"strategy.balance={balance}", "strategy.rows=5",
        "task.steps_per_task=one-pass",
    )  # fmt: skip
    strategy, phases = assembly.recipe.strategy, assembly.stream.phases
    drawn: set[int] = set()
    for index, phase in enumerate(phases):
        begin_task(engine, assembly, index)
        for step in range(40):
            rows = strategy.memory(phase.batch(step), step=step)
            assert (rows is None) == (index == 0)
            if rows is not None and step % 10 == 0:
                assert rows.tokens_BT.shape == (5, 1, 64)
                drawn = set(phase_of_rows(rows))
                assert drawn <= set(range(index))
    assert drawn
    stored = strategy.stored
    tasks = Counter(phase_of_rows(Batch(stored.columns["tokens"], *3 * [stored.columns["targets"]])))
    assert sum(tasks.values()) == 30
    if balance == "task":
        assert set(tasks.values()) == {10}
    if balance == "class":
        assert set(Counter(stored.columns["targets"].flatten().tolist()).values()) == {3}


def test_replay_is_the_loss_of_both_together_and_leaves_the_fast_state_to_its_own_rows():
    job = (*TOKENS, *FAST, "adapter.reset=never", "adapter.carry=lane")
    (_, naive), (assembly, engine) = (ready(job, f"strategy={name}") for name in ("naive", "replay"))
    learn_task(engine, assembly, 0)
    naive.learner.load_state_dict(engine.learner.state_dict())
    naive.learner.fast = {name: x.clone() for name, x in engine.learner.fast.items()}
    begin_task(engine, assembly, 1)
    batch, strategy = assembly.stream.phases[1].batch(0), assembly.recipe.strategy
    seen: list[Batch] = []
    memory = strategy.memory
    strategy.memory = lambda batch, *, step: seen.append(memory(batch, step=step)) or seen[-1]
    loss = loss_of(engine.learner, assembly.recipe, batch, step=0)
    own, _ = naive.learner(batch, naive.learner.fast)
    old, _ = naive.learner(seen[0], naive.learner.adapter.initial())
    expected = cross_entropy(torch.cat([own, old]), Batch.stack([batch, seen[0]]), reduction="mean")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss_of(naive.learner, assembly.recipe, batch, step=0)
    for name, x in naive.learner.fast.items():
        torch.testing.assert_close(engine.learner.fast[name], x)


def test_replay_in_parts_is_replay():
    losses = []
    for parts in (1, 2):
        assembly, engine = ready((*TOKENS, "adapter=none"), "strategy=replay", f"trainer.accumulate={parts}")
        losses.append([p.loss for index in range(3) for p in learn_task(engine, assembly, index)])
    assert np.array(losses[0]) == pytest.approx(np.array(losses[1]), rel=1e-4)


def test_where_no_task_is_announced_all_that_is_stored_is_drawn():
    assembly, engine = ready(TOKENS, "task=drift-sequence", "adapter=none", "strategy=replay")
    phase = assembly.stream.phases[0]
    assert not phase.announced
    given = [assembly.recipe.strategy.memory(phase.batch(step), step=step) for step in range(3)]
    assert [rows is None for rows in given] == [True, False, False]


# ---- der, agem


def test_der_stores_the_logits_of_scored_tokens_as_they_were():
    assembly, engine = ready((*TOKENS, "adapter=none"), "strategy=der", "strategy.size=100", "optimizer.lr=1")
    phase, stored = assembly.stream.phases[0], assembly.recipe.strategy.stored
    begin_task(engine, assembly, 0)
    then = []
    for step in range(3):
        logits_BTV, _ = engine.learner(phase.batch(step), {})
        then += [logits_BTV[b][phase.batch(step).targets_BT[b] != IGNORE].detach() for b in range(2)]
        for _ in train(engine, Later(phase, step), recipe=assembly.recipe, steps=1, report_every=1):
            pass
    assert stored.filled == 6
    for row, logits_SV in enumerate(then):
        torch.testing.assert_close(stored.columns["logits"][row, : len(logits_SV)], logits_SV)
        assert not stored.columns["logits"][row, len(logits_SV) :].any()


class Later:
    def __init__(self, phase, step):
        self.name, self._phase, self._step = phase.name, phase, step

    def batch(self, step):
        return self._phase.batch(self._step + step)


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
    assembly, engine = ready(PERMUTED, "strategy=der", "strategy.alpha=0.3", "strategy.beta=0.7", "strategy.rows=5")
    learn_task(engine, assembly, 0)
    begin_task(engine, assembly, 1)
    batch, strategy = assembly.stream.phases[1].batch(0), assembly.recipe.strategy
    loss = loss_of(engine.learner, assembly.recipe, batch, step=0)
    rows, then_BSV = strategy._again
    own, again = (engine.learner(x, {})[0].flatten(0, 1) for x in (batch, rows))
    expected = F.cross_entropy(own, batch.targets_BT.flatten())
    expected = expected + 0.3 * F.mse_loss(again, then_BSV.flatten(0, 1))
    expected = expected + 0.7 * F.cross_entropy(again, rows.targets_BT.flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # Rows of the first task, with the logits of that time: not those of now.
    assert set(phase_of_rows_of(assembly, rows)) == {0}
    assert not torch.allclose(again, then_BSV.flatten(0, 1), atol=1e-3)


def phase_of_rows_of(assembly: Assembly, batch: Batch) -> list[int]:
    phases = enumerate(assembly.stream.phases)
    origin = {row.numpy().tobytes(): i for i, p in phases for s in range(p.steps) for row in p.batch(s).tokens_BT}
    return [origin[row.numpy().tobytes()] for row in batch.tokens_BT]


def test_a_projection_ends_at_a_right_angle_and_leaves_others_alone():
    own, old = [torch.tensor([1.0, 0.0]), torch.tensor([2.0])], [torch.tensor([-3.0, 1.0]), torch.tensor([0.5])]
    # g . r = -2, r . r = 10.25
    assert project(own, old)
    expected = [torch.tensor([1 - 6 / 10.25, 2 / 10.25]), torch.tensor([2 + 1 / 10.25])]
    torch.testing.assert_close(own, expected)
    assert sum(float((g * r).sum()) for g, r in zip(own, old, strict=True)) == pytest.approx(0, abs=1e-6)
    before = [x.clone() for x in own]
    assert not project(own, [x.clone() for x in own])
    torch.testing.assert_close(own, before)


def test_agem_steps_do_not_point_against_memory_and_touch_no_fast_state():
    assembly, engine = ready((*TOKENS, *FAST, "adapter.reset=never"), "strategy=agem", "strategy.size=12")
    learn_task(engine, assembly, 0)
    begin_task(engine, assembly, 1)
    learner, strategy = engine.learner, assembly.recipe.strategy
    rows_used: list[Batch] = []
    drawn = strategy.drawn
    strategy.drawn = lambda: rows_used.append(drawn()) or rows_used[-1]
    trained, turned = [p for p in engine.order if p.requires_grad], 0
    for step in range(STEPS):
        learner.zero_grad()
        loss_of(learner, assembly.recipe, assembly.stream.phases[1].batch(step), step=step).backward()
        fast = {name: x.clone() for name, x in learner.fast.items()}
        plain = torch.cat([p.grad.flatten() for p in trained])
        strategy.gradients(engine)
        assert all(torch.equal(x, learner.fast[name]) for name, x in fast.items())
        loss = cross_entropy(learner(rows_used[-1], learner.adapter.initial())[0], rows_used[-1], reduction="mean")
        old = torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained, materialize_grads=True)])
        now = torch.cat([p.grad.flatten() for p in trained])
        is_against = float(plain @ old) < 0
        turned += is_against
        assert torch.equal(now, plain) != is_against
        assert float(now @ old) >= -1e-4 * float(old @ old)
    assert strategy.terms() == {"projected": pytest.approx(turned / STEPS)}


# ---- teachers


def test_divergence_is_the_mean_over_tokens_and_the_sum_over_heads():
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
            found = distillation_loss(old_NV, new_NV, temperature=temperature, heads_HV=mask)
            assert found.item() == pytest.approx(by_hand(heads, temperature), rel=1e-5)
            (gradient,) = torch.autograd.grad(found, new_NV)
            assert gradient.isfinite().all()
            assert mask is None or not gradient[:, 5].any()
    assert float(distillation_loss(old_NV, old_NV, temperature=2.0, heads_HV=heads_HV)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_teacher_answers_by_its_own_weights_and_the_graph_of_the_student_stays(precision):
    """Autocast keeps the halves of parameters it has seen: a teacher would then answer as the student."""
    assembly, engine = ready((*TOKENS, *FAST), f"trainer.precision={precision}")
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
    assembly, engine = ready(SPLIT, "strategy=lwf", "strategy.temperature=3", f"task.scenario={scenario}")
    learner, twin = engine.learner, ready(SPLIT, f"task.scenario={scenario}")[1].learner
    learn_task(engine, assembly, 0)
    learn_task(engine, assembly, 1)
    twin.load_state_dict(learner.state_dict())
    begin_task(engine, assembly, 2)
    learned = list(train(engine, assembly.stream.phases[2], recipe=assembly.recipe, steps=2, report_every=2))
    assert learned[0].terms["penalty"] > 0
    batch = assembly.stream.phases[2].batch(2)
    logits_BTV, _ = learner(batch, {})
    found = assembly.recipe.strategy.extra(learner, batch, logits_BTV, own=len(batch.tokens_BT))
    evaluations = [task.evaluation() for task in assembly.stream.tasks]
    labels = [e.targets_BT.unique().tolist() for e in evaluations]
    heads = {"task": labels[:2], "class": [sorted(labels[0] + labels[1])], "domain": [labels[0]]}[scenario]
    assert sum(len(head) for head in heads) == {"task": 4, "class": 4, "domain": 2}[scenario]
    expected = 0.0
    for head in heads:
        with torch.no_grad():
            log_p = F.log_softmax(twin(batch, {})[0][:, 0, head] / 3, -1)
        log_q = F.log_softmax(logits_BTV[:, 0, head] / 3, -1)
        expected = expected + 9 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    mine, theirs = (torch.autograd.grad(x, learner.model.head.weight, retain_graph=True)[0] for x in (found, expected))
    torch.testing.assert_close(mine, theirs)


def test_distill_moves_the_slow_answer_towards_the_fast_one():
    job = (*TOKENS, *FAST, "adapter.reset=never", "adapter.step=1.0")
    assembly, engine = ready(job, "strategy=distill", "strategy.temperature=2")
    learn_task(engine, assembly, 0)
    learner, batch = engine.learner, assembly.stream.phases[1].batch(0)
    fast = {name: x.clone() for name, x in learner.fast.items()}
    fast_BTV, _ = learner(batch, learner.fast)
    found = assembly.recipe.strategy.extra(learner, batch, fast_BTV, own=len(batch.tokens_BT))
    assert all(torch.equal(x, learner.fast[name]) for name, x in fast.items())
    slow_BTV, _ = learner(batch, learner.adapter.initial(), write=False)
    scored = batch.targets_BT != IGNORE
    p, q = F.softmax(fast_BTV.detach()[scored] / 2, -1), F.softmax(slow_BTV[scored] / 2, -1)
    expected = 4 * (p * (p / q).log()).sum(-1).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4) != 0
    # The fast answer is a target: no gradient goes through it.
    assert torch.autograd.grad(found, fast_BTV, allow_unused=True) == (None,)
    mine, theirs = (torch.autograd.grad(x, engine.order[0])[0] for x in (found, expected))
    torch.testing.assert_close(mine, theirs)


# ---- as a run


def run(assembly: Assembly, engine: Engine, folder: Path, *, saved: Path | None = None) -> tuple[str, object]:
    """The whole stream, or the rest of one; the slow weights it ends with, and R."""
    results = stream_to_the_end(assembly, engine, folder, after=saved, report_every=2)
    return slow_hash(engine.learner.model), plain(results.rows)


@pytest.mark.parametrize(
    ("name", "also"),
    [*((name, []) for name in LEARNING), ("replay", ["strategy@also=lwf"]), ("lwf", ["strategy@also=der"])],
)
def test_a_run_that_goes_on_is_bit_for_bit_the_one_that_never_stopped(name, also, tmp_path):
    job = (*TOKENS, *FAST, "adapter.reset=never") if name in ("distill", "frozen") else SPLIT
    typed = [f"strategy={name}", *LEARNING[name], *also, "task.num_tasks=4", "optimizer=adamw"]
    whole = run(*ready(job, *typed), tmp_path)
    # Two checkpoints are kept: this one lies before the last task.
    assert run(*ready(job, *typed), tmp_path / "again", saved=tmp_path / "task-0003") == whole


@pytest.mark.parametrize("name", ["replay", "der", "agem", "lwf", "independent"])
def test_state_comes_back_as_it_was(name):
    states = []
    for saved in (None, 0):
        assembly, engine = ready(PERMUTED, f"strategy={name}", *LEARNING[name])
        strategy = assembly.recipe.strategy
        if saved is None:
            learn_task(engine, assembly, 0)
            learn_task(engine, assembly, 1)
        else:
            strategy.restore({key: x.clone() for key, x in states[0].items()})
        states.append(strategy.state())
    assert states[0].keys() == states[1].keys() != set()
    assert all(torch.equal(x, states[1][key]) for key, x in states[0].items())


REFUSED = {
    "strategy.size=0": ["strategy=replay"],
    "strategy.rows=0": ["strategy=der"],
    "strategy.balance=clas": ["strategy=replay"],
    "strategy.alpha=-1": ["strategy=der"],
    "strategy.beta=-1": ["strategy=der"],
    "strategy.coefficient=-1": ["strategy=lwf"],
    "strategy.coefficient=inf": ["strategy=distill"],
    "strategy.temperature=0": ["strategy=lwf"],
    "strategy.temperature=-2": ["strategy=distill"],
    "adapter=none": ["strategy=distill"],
    "strategy.rows=3": ["strategy=replay", "trainer.accumulate=2"],
    "trainer.accumulate=2": ["strategy=der"],
    "strategy.balance=class": [
        "strategy=replay",
        "source=digits",
        "task.seq_len=140",
        "base=none",
        "task.held_out=null",
    ],
    "strategy.balance=task": ["strategy=replay", "task=drift-sequence"],
    "strategy=lwf": ["task=drift-sequence"],
    "strategy=independent": ["task=drift-sequence"],
    "strategy@also=der": ["strategy=replay"],
    "strategy@also=cumulative": ["strategy=joint"],
}


def typed_with(typed: str) -> list[str]:
    words = {o.split("=")[0]: o for o in (*TOKENS, *FAST, *REFUSED[typed], typed)}
    return [o for o in words.values() if not (typed == "adapter=none" and o.startswith("adapter.chunk"))]


@pytest.mark.parametrize("typed", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(typed):
    with pytest.raises(ValueError, match=re.escape(typed)) as error:
        ready(tuple(typed_with(typed)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("typed", ["strategy.coefficient=-1", "adapter=none"])
def test_a_refusal_leaves_no_folder(typed, tmp_path):
    """Before anything is built, and when the learner is there."""
    outcome = run_here(typed_with(typed), tmp_path)
    assert outcome.code == 2
    (line,) = outcome.err.strip().splitlines()
    assert typed in line
    assert not (tmp_path / "outputs").exists()


def test_a_user_types_two_at_once(tmp_path):
    outcome = run_here([*SPLIT, "strategy=replay", "strategy@also=lwf", "also.coefficient=0.5"], tmp_path)
    assert outcome.code == 0, outcome.err
    (folder,) = tmp_path.glob("outputs/*/*/*")
    assert "replay+lwf" in str(folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    penalties = [line["terms"]["lwf.penalty"] for line in lines if line["event"] == "trained" and line["terms"]]
    # The first step of a task starts from the teacher itself.
    assert len(penalties) == 2 * STEPS
    assert sum(penalty > 0 for penalty in penalties) >= 2 * (STEPS - 1)
