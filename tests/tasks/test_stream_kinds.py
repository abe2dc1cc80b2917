"""What each stream does to sequences of its source: limits outputs, permutes, mixes, plants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_streams import build_stream, shared_stream, source_of

from ttt.stream import IGNORE, Batch, mixture
from ttt.tasks.drift_sequence import concept_shares
from ttt.tasks.machinery.cut import MIX


def labels_of(batch: Batch) -> set[int]:
    return set(batch.targets_BT[batch.targets_BT != IGNORE].tolist())


def test_scenarios_say_which_outputs_compete():
    """class: a label each; domain: two labels for all tasks; task: two labels, others masked."""
    typed = ("source=digits", "task.num_tasks=2", "task.classes_per_task=2")
    streams = {name: build_stream(*typed, f"task.scenario={name}") for name in ("class", "domain", "task")}
    first, second = (labels_of(task.evaluation()) for task in streams["class"].tasks)
    assert len(first) == len(second) == 2
    assert not first & second
    low = source_of(*typed).labels.start
    assert all(labels_of(task.evaluation()) == {low, low + 1} for task in streams["domain"].tasks)
    for task, labels in zip(streams["task"].tasks, (first, second), strict=True):
        batch = task.batch(0)
        assert all(set(torch.nonzero(row).flatten().tolist()) == labels for row in batch.outputs_BV)
        assert labels_of(batch) <= labels
    # The same images in all scenarios.
    images = [stream.tasks[0].evaluation().tokens_BT < low for stream in streams.values()]
    assert torch.equal(images[0], images[1])
    assert streams["class"].tasks[0].evaluation().outputs_BV is None


@pytest.mark.parametrize("permute", ["symbols", "positions"])
def test_a_permutation_can_be_undone_and_spares_labels(permute):
    typed = ("task=permuted-sequence", "source=digits", f"task.permute={permute}")
    stream = build_stream(*typed)
    plain = source_of(*typed).evaluation(np.arange(10), rows=4, length=64)
    seen = set()
    for task in stream.tasks:
        (view,) = task._views
        batch = task.evaluation()
        assert torch.equal(batch.targets_BT, plain.targets_BT)
        if permute == "symbols":
            back = torch.from_numpy(np.argsort(view.names_V))[batch.tokens_BT]
        else:
            back = batch.tokens_BT.clone()
            for start in range(0, batch.tokens_BT.shape[1], 17):
                back[:, start + torch.from_numpy(view.order_L)] = batch.tokens_BT[:, start : start + 16]
        assert torch.equal(back, plain.tokens_BT)
        assert not torch.equal(batch.tokens_BT, plain.tokens_BT)
        seen.add(batch.tokens_BT.numpy().tobytes())
    assert len(seen) == len(stream.tasks)


def test_vectors_are_permuted_by_their_numbers_and_keep_their_labels():
    typed = ("task=permuted-sequence", "source=digits", "source.read_as=vectors", "task.permute=positions")
    stream, source = build_stream(*typed), source_of(*typed)
    plain = source.evaluation(np.arange(10), rows=4, length=1)
    for task in stream.tasks:
        batch = task.evaluation()
        assert torch.equal(batch.targets_BT, plain.targets_BT)
        assert torch.equal(batch.tokens_BT, plain.tokens_BT[..., torch.from_numpy(task._views[0].order_L)])


def test_a_cipher_renames_targets_as_well():
    batch = shared_stream("task=permuted-sequence", "source=languages").tasks[0].batch(0)
    assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])


@given(st.floats(0, 12), st.integers(2, 6), st.sampled_from(["abrupt", "linear", "recurring"]))
def test_drift_is_a_mixture_that_is_pure_in_the_middle_of_a_turn(turn, concepts, schedule):
    turns = 2 * concepts if schedule == "recurring" else concepts
    shares = concept_shares(min(turn, turns), concepts=concepts, schedule=schedule, turns=turns)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    assert (shares > 0).sum() <= 2
    for j in range(turns):
        pure = concept_shares(j + 0.5, concepts=concepts, schedule=schedule, turns=turns)
        assert pure[j % concepts] == pytest.approx(1)


def test_a_drift_is_not_announced_and_follows_its_schedule():
    stream = build_stream("task=drift-sequence", "source=recall", "task.schedule=recurring", "task.batch_size=400")
    assert len(stream.phases) == 8
    assert not any(phase.announced for phase in stream.phases)
    assert stream.learned_at.tolist() == [1, 2, 3, 4]
    middle, late = stream.phases[0].batch(2), stream.phases[0].batch(4)

    def share_of(batch: Batch, task: int, step: int) -> float:
        pool = set(map(tuple, stream.tasks[task].batch(step).tokens_BT.tolist()))
        return float(np.mean([tuple(row) in pool for row in batch.tokens_BT.tolist()]))

    assert share_of(middle, 0, 2) == 1
    # At 0.9 of the first turn: 0.6 of the first concept, 0.4 of the second; four standard errors.
    assert share_of(late, 0, 4) == pytest.approx(0.6, abs=0.1)
    assert share_of(late, 1, 4) == pytest.approx(0.4, abs=0.1)


def test_blur_mixes_in_the_other_tasks():
    stream = build_stream("source=recall", "task.blur=0.3", "task.batch_size=400")
    task_rows = set(map(tuple, stream.tasks[1].batch(5).tokens_BT.tolist()))
    is_of_task = [tuple(row) in task_rows for row in stream.phases[1].batch(0).tokens_BT.tolist()]
    assert np.mean(is_of_task) == pytest.approx(0.7, abs=0.1)


def test_rows_of_a_mixture_stand_where_they_were_drawn():
    """Lanes keep their place: the row at b comes from the task drawn for b."""
    stream = build_stream("source=recall", "task.batch_size=50")
    batch = mixture(stream.tasks, np.full(4, 0.25), key=[0, MIX], step=3, rows=50)
    which = np.random.default_rng([0, MIX, 3]).choice(4, size=50, p=np.full(4, 0.25))
    for row, j in zip(batch.tokens_BT, which, strict=True):
        assert (stream.tasks[j].batch(3).tokens_BT == row).all(1).any()


@pytest.mark.parametrize("facts", [1, 4])
@pytest.mark.parametrize("distance", [0, 20])
def test_questions_follow_their_facts_at_the_distance(facts, distance):
    typed = ("task=recall-sequence", "source=languages", f"task.distances=[{distance}]", f"task.facts=[{facts}]")
    task, first = build_stream(*typed).tasks[0], source_of(*typed).vocab_size
    for batch in (task.batch(0), task.evaluation()):
        for tokens, targets in zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True):
            window = [*tokens, targets[-1]]
            planted = [t for t in range(65) if window[t] >= first]
            facts_at, questions_at = planted[: 2 * facts], planted[2 * facts :]
            pairs = {window[t]: window[t + 1] for t in facts_at[::2]}
            assert len(pairs) == facts
            assert questions_at[0] - facts_at[-1] - 1 == distance
            assert {window[t]: window[t + 1] for t in questions_at[::2]} == pairs
            assert [t + 1 for t in range(64) if targets[t] != IGNORE] == questions_at[1::2]


def test_random_labels_are_kept_within_a_task_and_differ_between_tasks():
    stream = build_stream("task=label-sequence", "source=digits", "task.num_examples=20", "task.num_labels=5")
    tables = []
    for task in stream.tasks:
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
    new = build_stream("task=label-sequence", "source=digits", "task.inputs=new")
    assert not torch.equal(new.tasks[0].evaluation().tokens_BT, new.tasks[1].evaluation().tokens_BT)


def test_stationary_tasks_share_their_eval_part_and_no_batch():
    stream = shared_stream("task=stationary", "source=digits")
    parts = [task.evaluation().tokens_BT for task in (stream.base, stream.tasks[0], stream.tasks[3])]
    assert torch.equal(parts[0], parts[1])
    assert torch.equal(parts[1], parts[2])
    assert not torch.equal(stream.tasks[0].batch(0).tokens_BT, stream.tasks[3].batch(0).tokens_BT)


def test_fewer_domains_than_tasks_are_refused():
    with pytest.raises(ValueError, match=r"task.num_tasks=100: source=code has only \d+ unrelated classes"):
        build_stream("task=domain-sequence", "source=code", "task.num_tasks=100")


def test_domains_come_in_the_order_that_was_typed():
    stream = build_stream("task=domain-sequence", "source=corpora", "task.domains=[tables,prose,languages/mlt]")
    assert [task.name for task in stream.tasks] == ["tables", "prose", "languages/mlt"]
    taken = {int(c) for task in stream.tasks for c in task._views[0].classes}
    assert not taken & set(stream.base._views[0].classes.tolist())
