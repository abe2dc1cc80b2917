"""Ways through star graphs: verifier, prompts, graphs, names of goals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hidden_rules import rng, some_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import shared_source

from ttt.stream import IGNORE, whole_rows
from ttt.tasks.star_graph import PARENT, REVERSE, WALK, StarGraph

#       5 -> 2 -> 9, 5 -> 0 -> 7, 5 -> 4 -> 1
EDGES = [(0, 7), (5, 2), (4, 1), (5, 0), (2, 9), (5, 4)]


@pytest.fixture(scope="module")
def source():
    return shared_source("source=star-graph", "source.deg=3", "source.nodes=16")


def batch_of(source, ends: tuple[int, int], answer: list[int]):
    """Return one row that asks for the way between `ends` in the graph of EDGES."""
    listed = itertools.chain(*((*edge, source.mark(";")) for edge in EDGES))
    question = [*listed, source.mark(":"), *ends, source.mark("=")]
    window = np.array([[*source.layout.seed_prompt, *question, *answer]])
    targets = window[:, 1:].copy()
    targets[:, : -len(answer)] = IGNORE
    return whole_rows(window[:, :-1], targets)


@pytest.mark.parametrize(
    ("right", "answer", "reward"),
    [
        ([5, 0, 7], [5, 0, 7], 1),
        # The other branch; a jump; a node twice; the way back; words and marks.
        ([5, 0, 7], [5, 2, 9], 0),
        ([5, 0, 7], [5, 2, 7], 0),
        ([5, 0, 7], [5, 5, 7], 0),
        ([5, 0, 7], [7, 0, 5], 0),
        ([5, 0, 7], [5, 20, 7], 0),
        ([5, 0, 7], [5, 16, 7], 0),
        ([7, 0, 5], [7, 0, 5], 1),
        ([7, 0, 5], [5, 0, 7], 0),
        # The right answer only tells the ends of the way; the edges come from the question.
        ([5, 3, 7], [5, 0, 7], 1),
        ([5, 3, 7], [5, 3, 7], 0),
    ],
)
def test_a_way_is_checked_against_the_edges(source, right, answer, reward):
    batch = batch_of(source, (5, 7), right)
    assert source.layout.verify(batch, torch.tensor([answer])).tolist() == [reward]


@pytest.mark.parametrize(
    ("prompt", "ends", "expected"),
    [
        ("walk null", (5, 7), [5, 0, 7]),
        ("null walk", (5, 7), [5, 0, 7]),
        ("walk reverse", (5, 7), [7, 0, 5]),
        ("reverse walk", (5, 7), [7, 0, 5]),
        ("null reverse", (5, 7), [7, 5, "end"]),
        ("parent null", (0, 7), [5, 0, 7]),
        ("parent null", (5, 0), [5, 0, "end"]),
        ("child null", (5, 0), [5, 0, 7]),
        ("child null", (5, 7), [5, 7, "end"]),
        # The centre has three children, so it has no single child.
        ("reverse child", (5, 0), [0, 5, "end"]),
        ("parent walk", (0, 7), [5, 0, 7]),
        ("walk walk", (4, 1), [4, 1, "end"]),
        # No node of the graph has this name.
        ("walk null", (5, 12), [IGNORE] * 3),
        ("null null", (5, 7), [IGNORE] * 3),
    ],
)
def test_what_prompts_express_about_a_graph(source, prompt, ends, expected):
    question = source.layout.questions(batch_of(source, ends, [0, 0, 0]))
    tokens = [source.mark(node) if isinstance(node, str) else node for node in expected]
    assert source.layout.means(source.layout.parse(prompt), question).tolist() == [tokens]


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 10**6), st.booleans())
def test_graphs_are_stars(deg, path, seed, lesson):
    nodes = max(8, deg * (path - 1) + 1)
    source = StarGraph(name="star-graph", noise=0.2, shown=0.65, deg=deg, path=path, nodes=nodes, hops=1)
    question = source.ask(3, rng=rng(seed), lesson=lesson)
    for row in question:
        edges = row[:-4].reshape(-1, 3)[:, :2].tolist()
        assert len({child for _, child in edges}) == len(edges) == deg * (path - 1)
        (centre,) = {parent for parent, _ in edges} - {child for _, child in edges}
        parent_of = {child: parent for parent, child in edges}
        leaves = set(parent_of) - set(parent_of.values())
        assert len(leaves) == deg
        first, goal = row[-3:-1].tolist()
        if lesson:
            assert parent_of[goal] == first
        else:
            assert (first, goal in leaves) == (centre, True)
        way = [goal]
        while way[-1] != first:
            way.append(parent_of[way[-1]])
        assert len(way) == (2 if lesson else path)
    # `way` and `parent_of` are those of the last row.
    for program in ((WALK,), (WALK, REVERSE), (REVERSE, WALK)):
        walked = source.obey(np.tile([*program, -1][:2], (3, 1)), question)[2]
        assert walked.tolist()[: len(way)] == (way[::-1] if program == (WALK,) else way)
    longer = source.obey(np.full((3, 2), PARENT), question)[2].tolist()
    above = parent_of.get(first, first)
    assert longer[0] == parent_of.get(above, above)


def test_half_of_the_goals_have_other_names():
    source = shared_source("source=star-graph")
    for index in some_classes(source):
        batch = source.problems(index, rows=1000, rng=rng(index))
        question, right = source.layout.questions(batch), source.layout.answers(batch)
        goal = right[:, 0] if len(source.classes[index][0]) == 2 else right[:, -1]
        assert (question[:, -2] != goal).float().mean() == pytest.approx(0.5, abs=0.07)
