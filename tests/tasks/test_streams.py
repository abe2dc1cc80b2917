"""Streams: pure functions of (seed, task, step), cut and bent as they say, on every source that has what they need."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ttt.config.build import build
from ttt.evaluation.evaluate import Plan
from ttt.stream import IGNORE, Batch, Stream, mixture
from ttt.tasks.drift_sequence import weights
from ttt.tasks.machinery.cut import MIX
from ttt.training.train import batches

SIZES = ("task.num_tasks=4", "task.seq_len=64", "task.batch_size=3", "task.steps_per_task=5", "task.eval_sequences=4")


def parts(*overrides: str, cache):
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[f"cache_dir={cache}", *overrides])
    resolved = OmegaConf.to_container(config, resolve=True)
    return (build(resolved[group], group=group, given={}, trusted=[]) for group in ("task", "source"))


@pytest.fixture
def stream(cache):
    """A stream by what one would type; the source it was cut from as `.source`."""

    def make(*overrides: str, seed: int = 0, base_seed: int = 0) -> Stream:
        task, source = parts(*SIZES, *overrides, cache=cache)
        made = task.build(source, seed=seed, base_seed=base_seed)
        object.__setattr__(made, "source", source)
        return made

    return make


COMBINATIONS = [
    ("task=split-sequence", "source=languages"),
    ("task=split-sequence", "source=recall"),
    ("task=split-sequence", "source=automata"),
    ("task=split-sequence", "source=digits", "task.num_tasks=2", "task.classes_per_task=2"),
    ("task=split-sequence", "source=digits", "task.num_tasks=2", "task.classes_per_task=2", "task.scenario=domain"),
    ("task=split-sequence", "source=digits", "task.num_tasks=2", "task.classes_per_task=2", "task.scenario=task"),
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
    ("task=split-sequence", "source=languages", "task.blur=0.3", "task.revisits=1"),
    ("task=permuted-sequence", "source=digits", "task.steps_per_task=one-pass"),
]


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True) if x is not None)


@pytest.mark.parametrize("typed", COMBINATIONS, ids=" ".join)
def test_every_combination_is_a_pure_function_of_seed_task_and_step(typed, stream):
    one, two, other = stream(*typed), stream(*typed), stream(*typed, seed=1)
    assert one.base.fingerprint == other.base.fingerprint
    for a, b in zip([one.base, *one.tasks], [two.base, *two.tasks], strict=True):
        assert (a.name, a.fingerprint) == (b.name, b.fingerprint)
        assert same(a.evaluation(), b.evaluation())
    for a, b in zip(one.phases, two.phases, strict=True):
        # In any order, as often as one likes.
        late, early = a.batch(4), a.batch(1)
        assert same(b.batch(1), early)
        assert same(b.batch(4), late)
        assert not torch.equal(late.tokens_BT, early.tokens_BT)
    assert not {t.fingerprint for t in one.tasks} & {t.fingerprint for t in other.tasks}
    assert set(one.learned_at) <= set(range(1, len(one.phases) + 1))


@pytest.mark.parametrize("typed", COMBINATIONS, ids=" ".join)
def test_batches_are_well_formed_and_can_be_shown(typed, stream):
    made = stream(*typed)
    for task in (made.base, *made.tasks[:2]):
        for batch in (task.batch(0), task.evaluation()):
            assert batch.tokens_BT.shape == batch.targets_BT.shape == batch.segment_BT.shape
            assert batch.tokens_BT.shape[1] <= made.seq_len
            scored = batch.targets_BT != IGNORE
            assert scored.any(1).all()
            for tokens in (batch.tokens_BT, batch.targets_BT[scored]):
                assert 0 <= tokens.min() <= tokens.max() < made.vocab_size
            # What is scored is what comes next.
            inner = scored[:, :-1]
            assert torch.equal(batch.tokens_BT[:, 1:][inner], batch.targets_BT[:, :-1][inner])
        assert made.show(task.evaluation().tokens_BT[0].numpy()).strip()


REFUSED = [
    (("task=permuted-sequence", "source=languages", "task.permute=positions"), "task.permute=positions: source=lang"),
    (("task=permuted-sequence", "task.scenario=class"), "task.scenario=class: all tasks have the same outputs; allow"),
    (("task=permuted-sequence", "task.num_tasks=null"), "task.num_tasks=null: permuted-sequence needs a number"),
    (("task=permuted-sequence", "source=digits", "task.classes=11"), "task.classes=11: source=digits has 10"),
    (
        ("task=split-sequence", "source=languages", "task.scenario=class"),
        "task.scenario=class: source=languages is run",
    ),
    (("task=split-sequence", "task.scenario=tsak"), "task.scenario=tsak: must be one of auto, task"),
    (
        ("task=split-sequence", "source=digits", "task.num_tasks=6", "task.classes_per_task=2"),
        "source=digits has only 10",
    ),
    (("task=split-sequence", "source=recall", "task.steps_per_task=one-pass"), "source=recall makes sequences as they"),
    (
        ("task=permuted-sequence", "source=digits", "task.steps_per_task=one-pass", "task.batch_size=600"),
        "task.steps_per_task=one-pass: 'permutation 1' has too little for one batch of task.batch_size=600 rows",
    ),
    (("task=split-sequence", "source=languages", "task.examples=2"), "task.examples=2: source=languages is running"),
    (("task=split-sequence", "source=digits", "task.examples=20"), "task.examples=20: takes 339 tokens"),
    (("task=split-sequence", "source=languages", "task.seq_len=100000"), r"task.seq_len=100000: longer than the train"),
    (("task=split-sequence", "source=digits", "task.seq_len=8"), r"task.seq_len=8: shorter than one example"),
    (("task=split-sequence", "task.steps_per_task=0"), "task.steps_per_task=0: must be a number of at least 1, or"),
    (("task=split-sequence", "task.num_tasks=0"), "task.num_tasks=0: must be at least 1"),
    (("task=split-sequence", "task.blur=1.0"), "task.blur=1.0: must be at least 0 and below 1"),
    (("task=split-sequence", "task.held_out=3"), "task.held_out=3 keeps only 3"),
    (("task=split-sequence", "source=recall", "task.held_out=3000"), "task.held_out=3000: source=recall has only 2000"),
    (("task=domain-sequence", "source=digits"), "task=domain-sequence: source=digits holds labelled examples"),
    (
        ("task=domain-sequence", "source=languages", "task.domains=[prosa]"),
        "task.domains=prosa: source=languages has no",
    ),
    (("task=drift-sequence", "task.schedule=linaer"), "task.schedule=linaer: must be one of abrupt, linear, recurring"),
    (("task=drift-sequence", "task.blur=0.1"), "task.blur=0.1: drift-sequence has no boundaries"),
    (
        ("task=recall-sequence", "source=digits", "task.distances=[0]"),
        "task=recall-sequence: source=digits holds labelled examples",
    ),
    (("task=recall-sequence", "task.distances=[200]"), "task.seq_len=64: 4 facts at a distance of 200 take 215 tokens"),
    (("task=recall-sequence", "task.facts=[40]"), "task.facts=40: there are only task.num_keys=32 keys"),
    (("task=label-sequence", "task.steps_per_task=one-pass"), "task.steps_per_task=one-pass: to memorise takes many"),
    (("task=label-sequence", "task.example_len=65"), "task.seq_len=64: shorter than one example of 65 tokens and its"),
    (("task=stationary", "task.scenario=task"), "task.scenario=task: all tasks are one; allowed: domain"),
]


@pytest.mark.parametrize(("typed", "message"), REFUSED, ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_what_cannot_be_is_refused_in_one_line(typed, message, stream):
    with pytest.raises(ValueError, match=r"^task") as error:
        stream(*typed)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_seeds(stream):
    """`seed` changes tasks and keeps the base; `base_seed` changes what is held out."""
    first, base = stream("source=recall"), stream("source=recall", base_seed=1)
    assert first.base.fingerprint != base.base.fingerprint


def test_no_relative_of_a_task_is_in_the_base(stream):
    for seed in range(3):
        made = stream("source=languages", "task.num_tasks=20", seed=seed)
        family_of = {c: f for f, members in enumerate(made.source.families()) for c in members}
        tasks = [family_of[int(c)] for task in made.tasks for c in task._views[0].classes]
        base = {family_of[int(c)] for c in made.base._views[0].classes}
        assert len(set(tasks)) == 20
        assert not set(tasks) & base
    assert len(base) > 300


def labels_of(batch: Batch) -> set[int]:
    return set(batch.targets_BT[batch.targets_BT != IGNORE].tolist())


def test_scenarios_say_which_outputs_compete(stream):
    """class: a label each; domain: the same two labels in every task; task: its own two labels, the rest is masked."""
    typed = ("source=digits", "task.num_tasks=2", "task.classes_per_task=2")
    made = {name: stream(*typed, f"task.scenario={name}") for name in ("class", "domain", "task")}
    first, second = (labels_of(task.evaluation()) for task in made["class"].tasks)
    assert len(first) == len(second) == 2
    assert not first & second
    low = made["domain"].source.labels.start
    assert all(labels_of(task.evaluation()) == {low, low + 1} for task in made["domain"].tasks)
    for task, labels in zip(made["task"].tasks, (first, second), strict=True):
        batch = task.batch(0)
        assert all(set(torch.nonzero(row).flatten().tolist()) == labels for row in batch.outputs_BV)
        assert labels_of(batch) <= labels
    # The same images in all scenarios.
    images = [m.tasks[0].evaluation().tokens_BT < low for m in made.values()]
    assert torch.equal(images[0], images[1])
    assert made["class"].tasks[0].evaluation().outputs_BV is None


@pytest.mark.parametrize("permute", ["symbols", "positions"])
def test_a_permutation_can_be_undone_and_spares_labels(permute, stream):
    made = stream("task=permuted-sequence", "source=digits", f"task.permute={permute}")
    plain = made.source.evaluation(np.arange(10), rows=4, length=64)
    seen = []
    for task in made.tasks:
        (view,) = task._views
        bent = task.evaluation()
        assert torch.equal(bent.targets_BT, plain.targets_BT)
        if permute == "symbols":
            back = torch.from_numpy(np.argsort(view.names_V))[bent.tokens_BT]
        else:
            back = bent.tokens_BT.clone()
            for start in range(0, bent.tokens_BT.shape[1], 17):
                back[:, start + torch.from_numpy(view.order_L)] = bent.tokens_BT[:, start : start + 16]
        assert torch.equal(back, plain.tokens_BT)
        assert not torch.equal(bent.tokens_BT, plain.tokens_BT)
        seen.append(bent.tokens_BT.numpy().tobytes())
    assert len(set(seen)) == len(made.tasks)


def test_a_cipher_renames_targets_as_well(stream):
    made = stream("task=permuted-sequence", "source=languages")
    batch = made.tasks[0].batch(0)
    assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])


@given(st.floats(0, 12), st.integers(2, 6), st.sampled_from(["abrupt", "linear", "recurring"]))
def test_drift_is_a_mixture_that_is_pure_in_the_middle_of_a_turn(turn, concepts, schedule):
    turns = 2 * concepts if schedule == "recurring" else concepts
    mix = weights(min(turn, turns), concepts=concepts, schedule=schedule, turns=turns)
    assert mix.sum() == pytest.approx(1)
    assert (mix >= 0).all()
    assert (mix > 0).sum() <= 2
    for j in range(turns):
        pure = weights(j + 0.5, concepts=concepts, schedule=schedule, turns=turns)
        assert pure[j % concepts] == pytest.approx(1)


def test_a_drift_is_not_announced_and_follows_its_schedule(stream):
    made = stream("task=drift-sequence", "source=recall", "task.schedule=recurring", "task.batch_size=400")
    assert len(made.phases) == 8
    assert not any(phase.announced for phase in made.phases)
    assert made.learned_at.tolist() == [1, 2, 3, 4]
    pools = [set(map(tuple, task.batch(step).tokens_BT.tolist())) for task in made.tasks[:2] for step in (2, 4)]
    middle, late = made.phases[0].batch(2), made.phases[0].batch(4)
    rows = [[tuple(row) in pool for row in batch.tokens_BT.tolist()] for batch, pool in
            ((middle, pools[0]), (late, pools[1]), (late, pools[3]))]  # fmt: skip
    assert np.mean(rows[0]) == 1
    # At 0.9 of the first turn: 0.6 of the first concept, 0.4 of the second; four standard errors.
    assert np.mean(rows[1]) == pytest.approx(0.6, abs=0.1)
    assert np.mean(rows[2]) == pytest.approx(0.4, abs=0.1)


def test_blur_mixes_in_the_other_tasks(stream):
    made = stream("source=recall", "task.blur=0.3", "task.batch_size=400")
    own = set(map(tuple, made.tasks[1].batch(5).tokens_BT.tolist()))
    rows = [tuple(row) in own for row in made.phases[1].batch(0).tokens_BT.tolist()]
    assert np.mean(rows) == pytest.approx(0.7, abs=0.1)


def test_rows_of_a_mixture_stand_where_they_were_drawn(stream):
    """Lanes keep their place: the row at b comes from the task drawn for b."""
    made = stream("source=recall", "task.batch_size=50")
    batch = mixture(made.tasks, np.full(4, 0.25), key=[0, MIX], step=3, rows=50)
    which = np.random.default_rng([0, MIX, 3]).choice(4, size=50, p=np.full(4, 0.25))
    for row, j in zip(batch.tokens_BT, which, strict=True):
        assert (made.tasks[j].batch(3).tokens_BT == row).all(1).any()


def test_revisits_come_with_new_batches(stream):
    made = stream("source=recall", "task.revisits=2")
    assert [phase.task for phase in made.phases] == [0, 1, 2, 3] * 3
    assert made.learned_at.tolist() == [1, 2, 3, 4]
    assert not torch.equal(made.phases[0].batch(0).tokens_BT, made.phases[4].batch(0).tokens_BT)
    assert made.phases[4].name.endswith("(visit 2)")


def test_one_pass_reads_every_example_once(stream):
    made = stream("task=permuted-sequence", "source=digits", "task.steps_per_task=one-pass", "task.batch_size=2")
    (phase, task) = made.phases[0], made.tasks[0]
    units = np.sort(made.source.units(np.arange(10), length=64))
    drawn = [task._order(0)[s * 2 * 3 : (s + 1) * 2 * 3] for s in range(phase.steps)]
    assert len(units) - 6 < sum(map(len, drawn)) <= len(units)
    assert len(np.unique(np.concatenate(drawn))) == sum(map(len, drawn))
    # A second pass has another order.
    assert not torch.equal(task.batch(0).tokens_BT, task.batch(phase.steps).tokens_BT)


@pytest.mark.parametrize("facts", [1, 4])
@pytest.mark.parametrize("distance", [0, 20])
def test_facts_are_told_before_they_are_asked_at_their_distance(facts, distance, stream):
    made = stream("task=recall-sequence", "source=languages", f"task.distances=[{distance}]", f"task.facts=[{facts}]")
    first = made.source.vocab_size
    for batch in (made.tasks[0].batch(0), made.tasks[0].evaluation()):
        for tokens, targets in zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True):
            window = [*tokens, targets[-1]]
            own = [t for t in range(65) if window[t] >= first]
            told, asked = own[: 2 * facts], own[2 * facts :]
            pairs = {window[t]: window[t + 1] for t in told[::2]}
            assert len(pairs) == facts
            assert asked[0] - told[-1] - 1 == distance
            assert {window[t]: window[t + 1] for t in asked[::2]} == pairs
            assert [t + 1 for t in range(64) if targets[t] != IGNORE] == asked[1::2]


def test_random_labels_are_kept_within_a_task_and_differ_between_tasks(stream):
    made = stream("task=label-sequence", "source=digits", "task.num_examples=20", "task.num_labels=5")
    tables = []
    for task in made.tasks:
        table: dict[tuple[int, ...], int] = {}
        for batch in (task.evaluation(), task.batch(0), task.batch(7)):
            for tokens, targets in zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True):
                for end in (t for t, y in enumerate(targets) if y != IGNORE):
                    image = tuple(tokens[end - 15 : end + 1])
                    assert table.setdefault(image, targets[end]) == targets[end]
        assert len(table) == 20
        tables.append(table)
    # inputs=same: the same images, other labels.
    assert tables[0].keys() == tables[1].keys()
    assert tables[0] != tables[1]
    new = stream("task=label-sequence", "source=digits", "task.inputs=new")
    assert not torch.equal(new.tasks[0].evaluation().tokens_BT, new.tasks[1].evaluation().tokens_BT)


def test_stationary_tasks_share_their_eval_part_and_no_batch(stream):
    made = stream("task=stationary", "source=digits")
    assert same(made.tasks[0].evaluation(), made.tasks[3].evaluation())
    assert same(made.base.evaluation(), made.tasks[0].evaluation())
    assert not torch.equal(made.tasks[0].batch(0).tokens_BT, made.tasks[3].batch(0).tokens_BT)


def test_domains_come_in_the_order_that_was_typed(stream):
    made = stream("task=domain-sequence", "source=corpora", "task.domains=[tables,prose,languages/mlt]")
    assert [task.name for task in made.tasks] == ["tables", "prose", "languages/mlt"]
    taken = {int(c) for task in made.tasks for c in task._views[0].classes}
    assert not taken & set(made.base._views[0].classes.tolist())


# The test asks for more processes than small machines have cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("typed", [("source=recall",), ("task=permuted-sequence", "source=digits")])
def test_worker_processes_change_no_batch(typed, stream):
    phase = stream(*typed).phases[0]
    for a, b in zip(batches(phase, steps=6, workers=0), batches(phase, steps=6, workers=4), strict=True):
        assert same(a, b)


@given(st.integers(1, 9), st.integers(1, 4))
def test_shares_of_devices_are_the_batch(rows, devices):
    batch = Batch(*(torch.arange(rows * 3).view(rows, 3) + k for k in range(3)))
    shares = [batch.share(rank, of=devices) for rank in range(devices)]
    found = sorted(map(tuple, torch.cat([share.tokens_BT for share in shares]).tolist()))
    assert found == sorted(map(tuple, batch.tokens_BT.tolist()))


def test_many_tasks_are_measured_thinly(stream):
    made = stream("source=recall", "task.num_tasks=40", "task.eval_sequences=1")
    plan = Plan.of("auto", stream=made)
    rows = [plan.columns(row, stream=made) for row in range(41)]
    assert rows[0] == rows[-1] == rows[20] == list(range(40))
    assert rows[1] == [0, 1]
    assert rows[39] == [38, 39]
    assert sum(map(len, rows)) < 600
    assert Plan.of("auto", stream=stream("source=recall")).every == 1
    with pytest.raises(ValueError, match=r"eval\.every=no"):
        Plan.of("no", stream=made)
