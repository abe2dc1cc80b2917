"""All streams: pure functions of (seed, task, step) on every source that has what they need."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_streams import build_stream, shared_stream, source_of

from ttt.evaluation.plan import Plan
from ttt.stream import IGNORE, Batch
from ttt.training.train import batches

TWO_DIGITS = ("task=split-sequence", "source=digits", "task.num_tasks=2", "task.classes_per_task=2")
COMBINATIONS = [
    ("task=split-sequence", "source=languages"),
    ("task=split-sequence", "source=recall"),
    ("task=split-sequence", "source=automata"),
    TWO_DIGITS,
    (*TWO_DIGITS, "task.scenario=domain"),
    (*TWO_DIGITS, "task.scenario=task"),
    ("task=split-sequence", "source=mnist", "task.num_tasks=2", "task.classes_per_task=2"),
    ("task=split-sequence", "source=code"),
    ("task=permuted-sequence", "source=languages"),
    ("task=permuted-sequence", "source=digits"),
    ("task=permuted-sequence", "source=digits", "task.permute=positions"),
    ("task=permuted-sequence", "source=recall"),
    ("task=domain-sequence", "source=corpora", "task.domains=[prose,code,tables,languages/mlt]"),
    ("task=domain-sequence", "source=languages", "task.domains=[deu_1996,fra]"),
    ("task=drift-sequence", "source=languages"),
    ("task=drift-sequence", "source=automata", "task.schedule=recurring"),
    ("task=drift-sequence", "source=recall", "task.schedule=abrupt"),
    ("task=recall-sequence", "source=languages", "task.distances=[0,20]", "task.facts=[2,4]"),
    ("task=recall-sequence", "source=automata", "task.distances=[0,20]", "task.facts=[2]"),
    ("task=label-sequence", "source=digits"),
    ("task=label-sequence", "source=languages"),
    ("task=label-sequence", "source=automata", "task.inputs=new"),
    ("task=stationary", "source=recall"),
    ("task=stationary", "source=digits"),
    ("task=curriculum", "source=code", "task.num_tasks=1", "task.lengths=[16,32,64]"),
    ("task=curriculum", "source=recall", "task.num_tasks=1"),
    ("task=split-sequence", "source=languages", "task.blur=0.3", "task.revisits=1"),
    ("task=permuted-sequence", "source=digits", "task.steps_per_task=one-pass"),
]


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True) if x is not None)


@pytest.mark.parametrize("typed", COMBINATIONS, ids=" ".join)
def test_every_combination_is_a_pure_function_of_seed_task_and_step(typed):
    first, again, other = build_stream(*typed), build_stream(*typed), build_stream(*typed, seed=1)
    assert first.base.fingerprint == other.base.fingerprint
    for a, b in zip([first.base, *first.tasks], [again.base, *again.tasks], strict=True):
        assert (a.name, a.fingerprint) == (b.name, b.fingerprint)
        assert same(a.evaluation(), b.evaluation())
    for a, b in zip(first.phases, again.phases, strict=True):
        # In any order, as often as one likes.
        late, early = a.batch(4), a.batch(1)
        assert same(b.batch(1), early)
        assert same(b.batch(4), late)
        assert not torch.equal(late.tokens_BT, early.tokens_BT)
    assert not {t.fingerprint for t in first.tasks} & {t.fingerprint for t in other.tasks}
    assert set(first.learned_at) <= set(range(1, len(first.phases) + 1))


@pytest.mark.parametrize("typed", COMBINATIONS, ids=" ".join)
def test_batches_are_well_formed_and_can_be_shown(typed):
    stream = shared_stream(*typed)
    for task in (stream.base, *stream.tasks[:2]):
        for batch in (task.batch(0), task.evaluation()):
            assert batch.tokens_BT.shape == batch.targets_BT.shape == batch.segment_BT.shape
            assert batch.tokens_BT.shape[1] <= stream.seq_len
            is_scored = batch.targets_BT != IGNORE
            assert is_scored.any(1).all()
            for tokens in (batch.tokens_BT, batch.targets_BT[is_scored]):
                assert 0 <= tokens.min() <= tokens.max() < stream.vocab_size
            # What is scored is what comes next.
            inner = is_scored[:, :-1]
            assert torch.equal(batch.tokens_BT[:, 1:][inner], batch.targets_BT[:, :-1][inner])
        assert stream.show(task.evaluation().tokens_BT[0].numpy()).strip()


# What is typed, how the refusal begins, and what else it must name.
REFUSED = [
    (("task=permuted-sequence", "source=languages", "task.permute=positions"), "task.permute=positions", "languages"),
    (("task=permuted-sequence", "task.permute=symbol"), "task.permute=symbol", "symbols"),
    (("task=permuted-sequence", "task.scenario=class"), "task.scenario=class", "allowed: domain"),
    (("task=permuted-sequence", "task.num_tasks=null"), "task.num_tasks=null", "permuted-sequence"),
    (("task=permuted-sequence", "source=digits", "task.classes=11"), "task.classes=11", "10"),
    (("task=permuted-sequence", "task.classes=0"), "task.classes=0", "1"),
    (("task=permuted-sequence", "task.base_permutations=-1"), "task.base_permutations=-1", "0"),
    (("task=split-sequence", "source=languages", "task.scenario=class"), "task.scenario=class", "allowed: domain"),
    (("task=split-sequence", "task.scenario=tsak"), "task.scenario=tsak", "did you mean task?"),
    (("task=split-sequence", "task.order=sorted"), "task.order=sorted", "random"),
    (("task=split-sequence", "task.classes_per_task=0"), "task.classes_per_task=0", "1"),
    (
        ("task=split-sequence", "source=digits", "task.num_tasks=6", "task.classes_per_task=2"),
        "task.num_tasks=6",
        "source=digits has only 10; type task.num_tasks=5 base=none",
    ),
    (
        ("task=split-sequence", "source=digits", "task.num_tasks=2", "task.classes_per_task=11"),
        "task.num_tasks=2",
        "task.classes_per_task=10",
    ),
    (
        ("task=split-sequence", "source=digits", "task.num_tasks=5", "task.held_out=4"),
        "task.num_tasks=5",
        "type task.num_tasks=4",
    ),
    (
        ("task=split-sequence", "source=digits", "task.held_out=12", "task.num_tasks=2"),
        "task.held_out=12",
        "held_out=9",
    ),
    (
        ("task=split-sequence", "source=recall", "task.steps_per_task=one-pass"),
        "task.steps_per_task=one-pass",
        "recall",
    ),
    (("task=split-sequence", "source=languages", "task.examples=2"), "task.examples=2", "languages"),
    (("task=split-sequence", "source=digits", "task.examples=20"), "task.examples=20", "339"),
    (("task=split-sequence", "source=languages", "task.seq_len=100000"), "task.seq_len=100000", "train part"),
    (("task=split-sequence", "source=digits", "task.seq_len=8"), "task.seq_len=8", "16"),
    (("task=split-sequence", "task.seq_len=1"), "task.seq_len=1", "2"),
    (("task=split-sequence", "task.steps_per_task=0"), "task.steps_per_task=0", "1"),
    (("task=split-sequence", "task.steps_per_task=all"), "task.steps_per_task=all", "one-pass"),
    (("task=split-sequence", "task.eval_sequences=every"), "task.eval_sequences=every", "all"),
    (("task=split-sequence", "task.num_tasks=0"), "task.num_tasks=0", "1"),
    (("task=split-sequence", "task.revisits=-1"), "task.revisits=-1", "0"),
    (("task=split-sequence", "task.blur=1.0"), "task.blur=1.0", "below 1"),
    (("task=split-sequence", "task.held_out=3"), "task.num_tasks=4", "task.held_out=3 keeps only 3"),
    (("task=split-sequence", "source=recall", "task.held_out=3000"), "task.held_out=3000", "2000"),
    (("task=domain-sequence", "source=digits"), "task=domain-sequence", "source=digits"),
    (("task=domain-sequence", "source=languages", "task.domains=[prosa]"), "task.domains=prosa", "languages"),
    (("task=drift-sequence", "task.schedule=linaer"), "task.schedule=linaer", "did you mean linear?"),
    (("task=drift-sequence", "task.blur=0.1"), "task.blur=0.1", "drift-sequence"),
    (("task=drift-sequence", "task.cycles=0"), "task.cycles=0", "1"),
    (("task=drift-sequence", "source=digits", "task.steps_per_task=one-pass"), "task.steps_per_task=one-pass", "drift"),
    (("task=recall-sequence", "source=digits", "task.distances=[0]"), "task=recall-sequence", "source=digits"),
    (("task=recall-sequence", "task.distances=[200]"), "task.seq_len=64", "215"),
    (("task=recall-sequence", "task.distances=[]"), "task.distances=[]", ""),
    (("task=recall-sequence", "task.facts=[0]"), "task.facts=[0]", ""),
    (("task=recall-sequence", "task.facts=[40]"), "task.facts=40", "task.num_keys=32"),
    (("task=recall-sequence", "task.num_values=1"), "task.num_values=1", "2"),
    (("task=label-sequence", "task.steps_per_task=one-pass"), "task.steps_per_task=one-pass", ""),
    (("task=label-sequence", "task.example_len=65"), "task.seq_len=64", "65"),
    (("task=label-sequence", "task.num_labels=1"), "task.num_labels=1", "2"),
    (("task=label-sequence", "task.inputs=old"), "task.inputs=old", "same"),
    (("task=stationary", "task.scenario=task"), "task.scenario=task", "allowed: domain"),
]


@pytest.mark.parametrize(
    ("typed", "begins", "names"), REFUSED, ids=lambda x: " ".join(x) if isinstance(x, tuple) else ""
)
def test_what_cannot_be_is_refused_in_one_line(typed, begins, names):
    with pytest.raises(ValueError, match=r"^task") as error:
        build_stream(*typed)
    message = str(error.value)
    assert message.startswith((f"{begins}:", f"{begins} "))
    assert names in message.removeprefix(begins)
    assert "\n" not in message


def test_the_base_seed_changes_what_is_held_out():
    first, other = build_stream("source=recall"), build_stream("source=recall", base_seed=1)
    assert first.base.fingerprint != other.base.fingerprint


def test_no_relative_of_a_task_is_in_the_base():
    families = source_of("source=languages").families()
    family_of = {c: f for f, members in enumerate(families) for c in members}
    for seed in range(3):
        stream = build_stream("source=languages", "task.num_tasks=20", seed=seed)
        tasks = [family_of[int(c)] for task in stream.tasks for c in task._views[0].classes]
        base = {family_of[int(c)] for c in stream.base._views[0].classes}
        assert len(set(tasks)) == 20
        assert not set(tasks) & base
    assert len(base) > 300


def test_revisits_come_with_new_batches():
    stream = build_stream("source=recall", "task.revisits=2")
    assert [phase.task for phase in stream.phases] == [0, 1, 2, 3] * 3
    assert stream.learned_at.tolist() == [1, 2, 3, 4]
    assert not torch.equal(stream.phases[0].batch(0).tokens_BT, stream.phases[4].batch(0).tokens_BT)
    assert stream.phases[4].name.endswith("(visit 2)")


# The test starts more processes than small machines have cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("typed", [("source=recall",), ("task=permuted-sequence", "source=digits")])
def test_worker_processes_change_no_batch(typed):
    phase = shared_stream(*typed).phases[0]
    for a, b in zip(batches(phase, steps=6, workers=0), batches(phase, steps=6, workers=4), strict=True):
        assert same(a, b)


@given(st.integers(1, 9), st.integers(1, 4))
def test_shares_of_devices_are_the_batch(rows, devices):
    batch = Batch(*(torch.arange(rows * 3).view(rows, 3) + k for k in range(3)))
    shares = [batch.share(rank, of=devices) for rank in range(devices)]
    shared_rows = sorted(map(tuple, torch.cat([share.tokens_BT for share in shares]).tolist()))
    assert shared_rows == sorted(map(tuple, batch.tokens_BT.tolist()))


def test_many_tasks_are_measured_thinly():
    stream = build_stream("source=recall", "task.num_tasks=40", "task.eval_sequences=1")
    plan = Plan.of("auto", stream=stream)
    rows = [plan.columns(row, stream=stream) for row in range(41)]
    assert rows[0] == rows[-1] == rows[20] == list(range(40))
    assert rows[1] == [0, 1]
    assert rows[39] == [38, 39]
    assert sum(map(len, rows)) < 600
    assert Plan.of("auto", stream=shared_stream("source=recall")).every == 1
    with pytest.raises(ValueError, match=r"eval\.every=no"):
        Plan.of("no", stream=stream)
