"""Which rows a memory keeps and when they may be drawn: against algorithm R, and on average."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt.strategies.memory import Memory, padded
from ttt.strategies.reservoir import Reservoir


def algorithm_r(random: np.ndarray, *, size: int) -> list[int]:
    """The rows that are kept of as many as there are random numbers, one by one."""
    kept: list[int] = []
    for n, x in enumerate(random):
        place = int(x * (n + 1))
        if n < size:
            kept.append(n)
        elif place < size:
            kept[place] = n
    return kept


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 20),
    batch=st.integers(1, 9),
    tasks=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    key=st.integers(0, 2**40),
)
def test_a_memory_holds_algorithm_r_of_all_rows_at_task_ends_and_only_old_rows_before(size, batch, tasks, key):
    memory, twin = Memory(size=size, groups=1, key=key), Reservoir(size=size, groups=1, key=key)
    random, seen = np.empty(0), 0
    for batches in tasks:
        before = algorithm_r(random, size=size)
        for _ in range(batches):
            # What is drawn meanwhile is all of the old rows, never fewer and never a new one.
            assert memory.ready == len(before)
            assert memory.columns.get("row", torch.empty(0))[: memory.ready].tolist() == before
            rows, places = memory.reservoir.choose(0, rows=batch)
            assert len(set(places.tolist())) == len(places)
            if len(rows):
                memory.put({"row": torch.from_numpy(rows + seen)}, places, waits=True)
            # The first half of the numbers says which row goes, where all rows are of one group.
            random = np.concatenate([random, twin._random.take(2 * batch)[:batch]])
            seen += batch
        memory.admit()
        assert memory.columns["row"][: memory.ready].tolist() == algorithm_r(random, size=size)


def test_rows_that_wait_are_drawn_only_once_admitted_and_others_at_once():
    for waits in (False, True):
        memory = Memory(size=4, groups=1, key=7)
        rows, places = memory.reservoir.choose(0, rows=4)
        memory.put({"row": torch.from_numpy(rows)}, places, waits=waits)
        assert (memory.draw(3) is None) == waits
        memory.admit()
        drawn = memory.draw(1000)["row"]
        assert set(drawn.tolist()) == {0, 1, 2, 3}


def test_a_memory_in_the_middle_of_a_task_comes_back_as_it_was():
    first, second = (Memory(size=5, groups=2, key=3) for _ in range(2))

    def see(memory: Memory, start: int) -> None:
        group = np.arange(4) % 2
        rows, places = memory.reservoir.choose(group, rows=4)
        memory.put({"row": torch.from_numpy(rows + start)}, places, waits=True)

    for start in (0, 4):
        see(first, start)
    first.admit()
    first.draw(2)
    see(first, 8)
    second.restore({name: x.clone() for name, x in first.state().items()}, device=torch.device("cpu"))
    for memory in (first, second):
        see(memory, 12)
        memory.admit()
    assert first.draw(9)["row"].tolist() == second.draw(9)["row"].tolist()
    states = first.state(), second.state()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


def test_rows_of_different_lengths_are_padded():
    memory = Memory(size=2, groups=1, key=0)
    for length in (1, 3):
        _, places = memory.reservoir.choose(0, rows=1)
        memory.put({"logits": torch.ones(1, length, 2)}, places, waits=False)
    assert memory.columns["logits"].sum((1, 2)).tolist() == [2, 6]
    assert padded(torch.ones(1, 2), 4).tolist() == [[1, 1, 0, 0]]


def test_every_row_is_as_likely_to_be_kept():
    counts = np.zeros(60)
    for key in range(600):
        reservoir = Reservoir(size=12, groups=1, key=key)
        kept = np.zeros(12, np.int64)
        for i in range(10):
            rows, places = reservoir.choose(0, rows=6)
            kept[places] = 6 * i + rows
        counts[kept] += 1
    # Expected: 120 of 600, with a standard deviation of 9.8. Five of these.
    assert np.abs(counts - 120).max() < 49


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), batches=st.integers(8, 40), key=st.integers(0, 99))
def test_groups_get_equal_shares(seed, batches, key):
    """As equal as possible: a group that is short of its share has all its rows in memory."""
    # Unequal groups, drawn by numpy: lists from hypothesis take most of the test's time.
    random = np.random.default_rng(seed)
    group_NB = random.choice(4, size=(batches, 5), p=random.dirichlet(np.full(4, 0.5)))
    reservoir = Reservoir(size=10, groups=4, key=key)
    for group_B in group_NB:
        reservoir.choose(group_B, rows=5)
    seen = Counter(group_NB.flatten().tolist())
    stored = Counter(reservoir.group_M.tolist())
    assert stored == Counter({g: int(n) for g, n in enumerate(reservoir.stored_G) if n})
    assert reservoir.seen_G.tolist() == [seen[g] for g in range(4)]
    for group in seen:
        assert stored[group] >= min(seen[group], max(stored.values()) - 1)
