"""`star-graph`: the way through a graph with shuffled edges, where the first step needs foresight.

    graph    5 -> 2 -> 9 and 5 -> 0 -> 7, from the centre 5
    task     walk, goals in code 1   [null null] 0 7 ; 5 2 ; 5 0 ; 2 9 ; : 5 3 = 5 0 7
             the goal 7 is called 3
    lesson   walk                    [null walk] 0 7 ; 5 2 ; 5 0 ; 2 9 ; : 0 7 = 0 7 end

`deg` disjoint chains of `path` nodes share their first node, the centre (Bachmann & Nagarajan 2024,
arXiv 2403.06963). Words change a list of nodes, which begins with the two nodes of the question:
`walk` fills in the nodes between its ends, `reverse` turns the list round, `parent` and `child` add
a node before it or behind it. Lessons ask for single links and for walks of up to `hops` edges,
anywhere in graphs of the same size. Tasks ask for the whole way from the centre to the end of a
chain, and with two instructions for the way back.

A prompt can say which words to obey. It can say neither where to turn at the centre, nor how to go
on beyond `hops` edges, nor that half of the goals have other names: only the slow weights can learn
that. With path - 1 <= hops a base without a prompt finds some ways; the further path - 1 lies above
hops, the closer its reward comes to zero.

Shapes: B rows, E edges, C chains, N labels of nodes, S places of a list, Q question, A answer,
H steps of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from ttt.stream import IGNORE, Batch, Ints, Prompt
from ttt.tasks.machinery.rules import Class, Rules

WALK, REVERSE, PARENT, CHILD = range(4)
# How many ways there are to call goals by other names.
CODES = 45


@dataclass(kw_only=True, eq=False)
class StarGraph(Rules):
    """Arguments are explained in conf/source/star-graph.yaml."""

    deg: Annotated[int, Ge(1)]
    path: Annotated[int, Ge(2)]
    nodes: int
    hops: Annotated[int, Ge(1)]
    instructions: ClassVar[tuple[str, ...]] = ("walk", "reverse", "parent", "child")
    marks: ClassVar[tuple[str, ...]] = (";", ":", "=", "end")

    def sizes(self) -> tuple[int, int]:
        used = self.deg * (self.path - 1) + 1
        # Fewer than eight labels do not make CODES different pairings.
        least = max(used, 8)
        if self.nodes < least:
            raise ValueError(f"source.nodes={self.nodes}: must be at least {least}; a graph has {used} nodes")
        if self.hops >= self.path:
            raise ValueError(f"source.hops={self.hops}: chains of source.path={self.path} have {self.path - 1} edges")
        self.symbols = range(self.nodes)
        self._pairs = self._codes()
        return 3 * (used - 1) + 4, self.path

    def _codes(self) -> list[Ints]:
        """Return the pairs of labels that each code exchanges: CODES arrays [nodes // 4, 2].

        The pairs of a code are disjoint and hold half of all labels.
        """
        # The generator is fixed: a class means the same rule in every run.
        rng, pairings = np.random.default_rng(0), dict[tuple[tuple[int, ...], ...], Ints]()
        while len(pairings) < CODES:
            chosen = rng.permutation(self.nodes)[: self.nodes // 4 * 2].reshape(-1, 2)
            pairs = sorted((min(pair), max(pair)) for pair in chosen.tolist())
            pairings[tuple(pairs)] = np.array(pairs)
        return list(pairings.values())

    def find_classes(self) -> list[Class]:
        return [(program, part) for program in ((WALK,), (WALK, REVERSE)) for part in range(CODES)]

    def part_name(self, part: int) -> str:
        return f"goals in code {part + 1}"

    def hide(self, part: int, question_BQ: Ints, answer_BA: Ints) -> tuple[Ints, Ints]:
        """Return questions whose goal goes by the name of another node, and the same answers."""
        names = np.arange(self.vocab_size)
        pairs = self._pairs[part]
        names[pairs] = pairs[:, ::-1]
        question_BQ = question_BQ.copy()
        question_BQ[:, -2] = names[question_BQ[:, -2]]
        return question_BQ, answer_BA

    def ask(self, rows: int, *, rng: np.random.Generator, lesson: bool) -> Ints:
        # The order of draws is part of the data: chains, edges, distance, place, chain.
        chain_BCP = self._chains(rows, rng)
        edge_BE2 = np.stack([chain_BCP[:, :, :-1], chain_BCP[:, :, 1:]], axis=-1).reshape(rows, -1, 2)
        order_BE = shuffle_rows(np.tile(np.arange(edge_BE2.shape[1]), (rows, 1)), rng)
        edge_BE2 = np.take_along_axis(edge_BE2, order_BE[..., None], axis=1)
        apart_B = rng.integers(1, self.hops + 1, size=rows) if lesson else np.full(rows, self.path - 1)
        from_B = rng.integers(0, self.path - apart_B)
        row_B, chain_B = np.arange(rows), rng.integers(0, self.deg, size=rows)
        ends = [chain_BCP[row_B, chain_B, place_B] for place_B in (from_B, from_B + apart_B)]
        stop_BE1 = np.full((*edge_BE2.shape[:2], 1), self.mark(";"))
        colon_B, equals_B = (np.full(rows, self.mark(name)) for name in (":", "="))
        listed = np.concatenate([edge_BE2, stop_BE1], axis=2).reshape(rows, -1)
        return np.concatenate([listed, np.stack([colon_B, *ends, equals_B], axis=1)], axis=1)

    def _chains(self, rows: int, rng: np.random.Generator) -> Ints:
        """Draw the labels of all chains, each from the centre outwards: [B, C, path]."""
        used = self.deg * (self.path - 1) + 1
        label_BN = shuffle_rows(np.tile(np.arange(self.nodes), (rows, 1)), rng)[:, :used]
        centre_BC1 = np.tile(label_BN[:, :1, None], (1, self.deg, 1))
        return np.concatenate([centre_BC1, label_BN[:, 1:].reshape(rows, self.deg, -1)], axis=2)

    def begin(self, question_BQ: Ints) -> Ints:
        """Return lists of the question's two nodes, filled up with `nodes`, which is no label."""
        # Two instructions can add a node each.
        list_BS = np.full((len(question_BQ), self.path + 2), self.nodes)
        list_BS[:, :2] = question_BQ[:, -3:-1]
        return list_BS

    def follow(self, word: int, state_BS: Ints, question_BQ: Ints) -> Ints:
        parent_BN, child_BN = self.links(question_BQ)
        size_B = (state_BS != self.nodes).sum(axis=1)
        row_B = np.arange(len(state_BS))
        last_B = state_BS[row_B, size_B - 1]
        if word == REVERSE:
            return nodes_at(state_BS, size_B[:, None] - 1 - np.arange(state_BS.shape[1]), none=self.nodes)
        if word == CHILD:
            # One place more for a moment: the child of a full list is written there, and dropped.
            longer = np.concatenate([state_BS, np.full((len(state_BS), 1), self.nodes)], axis=1)
            longer[row_B, size_B] = child_BN[row_B, last_B]
            return longer[:, :-1]
        if word == PARENT:
            before_B = parent_BN[row_B, state_BS[:, 0]]
            longer = np.concatenate([before_B[:, None], state_BS[:, :-1]], axis=1)
            return np.where((before_B == self.nodes)[:, None], state_BS, longer)
        return self._walk(state_BS, parent_BN, last_B)

    def _walk(self, state_BS: Ints, parent_BN: Ints, last_B: Ints) -> Ints:
        """Return lists with the nodes between their ends: [B, S].

        A list stays as it is if no chain holds both of its ends.
        """
        # Each node has one parent, so both directions climb: from the last node up to the first,
        # which is read backwards, or from the first up to the last.
        place_S = np.arange(state_BS.shape[1])
        above_last_BS = ancestors(parent_BN, last_B, steps=len(place_S))
        is_first_BS = above_last_BS == state_BS[:, :1]
        down_BS = nodes_at(above_last_BS, is_first_BS.argmax(axis=1)[:, None] - place_S, none=self.nodes)
        above_first_BS = ancestors(parent_BN, state_BS[:, 0], steps=len(place_S))
        is_last_BS = above_first_BS == last_B[:, None]
        up_BS = np.where(place_S <= is_last_BS.argmax(axis=1)[:, None], above_first_BS, self.nodes)
        is_down_B1, is_up_B1 = is_first_BS.any(axis=1)[:, None], is_last_BS.any(axis=1)[:, None]
        return np.where(is_down_B1, down_BS, np.where(is_up_B1, up_BS, state_BS))

    def end(self, state_BS: Ints) -> Ints:
        answer_BA = state_BS[:, : self.path]
        return np.where(answer_BA == self.nodes, self.mark("end"), answer_BA)

    def links(self, question_BQ: Ints) -> tuple[Ints, Ints]:
        """Return the parent and the child of each label: [B, N + 1] twice.

        `nodes` stands where there is none, and as the child of a centre that has several.
        """
        row_B1 = np.arange(len(question_BQ))[:, None]
        # An edge takes three tokens, its two nodes and
        # a mark; the last four tokens are the question.
        edge_BE2 = question_BQ[:, :-4].reshape(len(question_BQ), -1, 3)[..., :2]
        parent_BN = np.full((len(question_BQ), self.nodes + 1), self.nodes)
        child_BN = parent_BN.copy()
        parent_BN[row_B1, edge_BE2[..., 1]] = edge_BE2[..., 0]
        child_BN[row_B1, edge_BE2[..., 0]] = edge_BE2[..., 1]
        if self.deg > 1:
            # The centre is the last ancestor of any node; the edges left it the child of one chain.
            above_BS = ancestors(parent_BN, edge_BE2[:, 0, 0], steps=self.path)
            to_centre_B1 = (above_BS != self.nodes).sum(axis=1, keepdims=True) - 1
            child_BN[row_B1, np.take_along_axis(above_BS, to_centre_B1, axis=1)] = self.nodes
        return parent_BN, child_BN

    def verify(self, batch: Batch, answer_BA: Tensor) -> Tensor:
        """Return 1 where an answer is a way along edges of the question, with the right ends: [B].

        The right answer in `batch` serves only to tell where the way begins and ends.
        """
        right = self.layout.answers(batch).cpu().numpy()
        answer = answer_BA.cpu().numpy()
        parent_BN, _ = self.links(self.layout.questions(batch).cpu().numpy())
        row_B1 = np.arange(len(answer))[:, None]
        # Sampled answers may hold words and marks, which are no nodes.
        node_BA = np.where((answer >= 0) & (answer < self.nodes), answer, self.nodes)
        from_BH, to_BH = node_BA[:, :-1], node_BA[:, 1:]
        # Edges may be walked either way: one of two neighbours is the parent of the other.
        is_edge_BH = (parent_BN[row_B1, from_BH] == to_BH) | (parent_BN[row_B1, to_BH] == from_BH)
        is_way_B = (is_edge_BH & (from_BH != self.nodes) & (to_BH != self.nodes)).all(axis=1)
        has_ends_B = (answer[:, [0, -1]] == right[:, [0, -1]]).all(axis=1)
        return torch.from_numpy(is_way_B & has_ends_B).float().to(answer_BA.device)

    def means(self, prompt: Prompt, question_BQ: Tensor) -> Tensor:
        """Return what a prompt expresses: [B, A]; IGNORE where no way leads to the goal."""
        question = question_BQ.cpu().numpy()
        parent_BN, _ = self.links(question)
        # A node without a parent is the centre, or not in the graph: no goal of a task.
        is_lost_B = parent_BN[np.arange(len(question)), question[:, -2]] == self.nodes
        is_lost_B1 = torch.from_numpy(is_lost_B)[:, None].to(question_BQ.device)
        return super().means(prompt, question_BQ).masked_fill(is_lost_B1, IGNORE)


def shuffle_rows(values: Ints, rng: np.random.Generator) -> Ints:
    """Return each row in a random order of its own."""
    order: Ints = rng.random(values.shape).argsort(axis=1)
    return np.take_along_axis(values, order, axis=1)


def nodes_at(list_BS: Ints, place_BS: Ints, *, none: int) -> Ints:
    """Return the nodes at places of each row's list, and `none` at places below 0: [B, S]."""
    return np.where(place_BS < 0, none, np.take_along_axis(list_BS, place_BS.clip(min=0), axis=1))


def ancestors(parent_BN: Ints, node_B: Ints, *, steps: int) -> Ints:
    """Return a node, its parent, the parent of its parent, and so on: [B, steps]."""
    row_B, way = np.arange(len(node_B)), [node_B]
    # Column N of `parent_BN` is its own parent: beyond the centre `nodes` repeats.
    for _ in range(steps - 1):
        way.append(parent_BN[row_B, way[-1]])
    return np.stack(way, axis=1)
