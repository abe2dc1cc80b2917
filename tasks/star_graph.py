"""`star-graph`: a way through a graph whose edges are shuffled; at the centre one must look ahead to turn right.

    graph    5 -> 2 -> 9 and 5 -> 0 -> 7, from the centre 5
    task     walk, goals in code 1   [null null] 0 7 ; 5 2 ; 5 0 ; 2 9 ; : 5 3 = 5 0 7    the goal 7 is asked for as 3
    lesson   walk                    [null walk] 0 7 ; 5 2 ; 5 0 ; 2 9 ; : 0 7 = 0 7 end

`deg` disjoint chains of `path` nodes share their first one (Bachmann & Nagarajan 2024, arXiv 2403.06963). Words change
a list of nodes, at first the two of the question: `walk` fills in what lies between its ends, `reverse` turns it
round, `parent` and `child` add one node before or behind it. Lessons ask for single links and for walks of up to
`hops` edges, anywhere in graphs of the same size. Tasks ask for the whole way from the centre to the end of a chain
(two instructions: back again).

A prompt can say which words to obey. It can say neither where to turn at the centre, nor how to go on beyond `hops`
edges, nor that half of the goals go by other names: this is left to the weights. With path - 1 <= hops a base now and
then finds the way without a prompt; the further beyond, the closer its reward comes to zero.

Shapes: B rows, E edges, N labels of nodes, S places of a list, A answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ttt.stream import IGNORE, Batch, Ints, Prompt
from ttt.tasks.machinery.rules import Class, Rules

WALK, REVERSE, PARENT, CHILD = range(4)
# Ways to call goals by other names.
CODES = 45


@dataclass(kw_only=True, eq=False)
class StarGraph(Rules):
    """Arguments are explained in conf/source/star-graph.yaml."""

    deg: int
    path: int
    nodes: int
    hops: int
    instructions: ClassVar[tuple[str, ...]] = ("walk", "reverse", "parent", "child")
    marks: ClassVar[tuple[str, ...]] = (";", ":", "=", "end")

    def sizes(self) -> tuple[int, int]:
        for argument, least in {"deg": 1, "path": 2, "hops": 1}.items():
            if getattr(self, argument) < least:
                raise ValueError(f"source.{argument}={getattr(self, argument)}: must be at least {least}")
        used = self.deg * (self.path - 1) + 1
        if self.nodes < max(used, 8):
            raise ValueError(f"source.nodes={self.nodes}: must be at least {max(used, 8)}; a graph has {used} nodes")
        if self.hops >= self.path:
            raise ValueError(f"source.hops={self.hops}: chains of source.path={self.path} have {self.path - 1} edges")
        self.symbols = range(self.nodes)
        self._pairs = self._codes()
        return 3 * (used - 1) + 4, self.path

    def _codes(self) -> list[Ints]:
        """For each code disjoint pairs of labels, half of all labels: [CODES][nodes // 4, 2]."""
        rng, found = np.random.default_rng(0), dict[tuple[tuple[int, ...], ...], Ints]()
        while len(found) < CODES:
            moved = rng.permutation(self.nodes)[: self.nodes // 4 * 2].reshape(-1, 2)
            pairs = sorted((min(pair), max(pair)) for pair in moved.tolist())
            found[tuple(pairs)] = np.array(pairs)
        return list(found.values())

    def find_classes(self) -> list[Class]:
        return [(program, part) for program in ((WALK,), (WALK, REVERSE)) for part in range(CODES)]

    def part_name(self, part: int) -> str:
        return f"goals in code {part + 1}"

    def hide(self, part: int, question_BQ: Ints, answer_BA: Ints) -> tuple[Ints, Ints]:
        """The goal is asked for under the name of another node."""
        called = np.arange(self.vocab_size)
        pairs = self._pairs[part]
        called[pairs] = pairs[:, ::-1]
        question_BQ = question_BQ.copy()
        question_BQ[:, -2] = called[question_BQ[:, -2]]
        return question_BQ, answer_BA

    def ask(self, rows: int, *, rng: np.random.Generator, lesson: bool) -> Ints:
        edges = self.deg * (self.path - 1)
        label_BN = shuffled(np.tile(np.arange(self.nodes), (rows, 1)), rng)[:, : edges + 1]
        centre_B11 = np.tile(label_BN[:, :1, None], (1, self.deg, 1))
        chain_BCP = np.concatenate([centre_B11, label_BN[:, 1:].reshape(rows, self.deg, -1)], axis=2)
        edge_BE2 = np.stack([chain_BCP[:, :, :-1], chain_BCP[:, :, 1:]], axis=-1).reshape(rows, edges, 2)
        edge_BE2 = np.take_along_axis(edge_BE2, shuffled(np.tile(np.arange(edges), (rows, 1)), rng)[..., None], axis=1)
        apart_B = rng.integers(1, self.hops + 1, size=rows) if lesson else np.full(rows, self.path - 1)
        from_B = rng.integers(0, self.path - apart_B)
        row_B, chain_B = np.arange(rows), rng.integers(0, self.deg, size=rows)
        ends = [chain_BCP[row_B, chain_B, place_B] for place_B in (from_B, from_B + apart_B)]
        stop_BE1 = np.full((rows, edges, 1), self.mark(";"))
        colon_B, equals_B = (np.full(rows, self.mark(name)) for name in (":", "="))
        listed = np.concatenate([edge_BE2, stop_BE1], axis=2).reshape(rows, -1)
        return np.concatenate([listed, np.stack([colon_B, *ends, equals_B], axis=1)], axis=1)

    def begin(self, question_BQ: Ints) -> Ints:
        """A list of nodes, filled up with `nodes`, which is the label of none."""
        list_BS = np.full((len(question_BQ), self.path + 2), self.nodes)
        list_BS[:, :2] = question_BQ[:, -3:-1]
        return list_BS

    def follow(self, word: int, state_BS: Ints, question_BQ: Ints) -> Ints:
        parent_BN, child_BN = self.links(question_BQ)
        size_B = (state_BS != self.nodes).sum(axis=1)
        row_B = np.arange(len(state_BS))
        last_B = state_BS[row_B, size_B - 1]
        if word == REVERSE:
            return taken(state_BS, size_B[:, None] - 1 - np.arange(state_BS.shape[1]), none=self.nodes)
        if word == CHILD:
            grown = np.concatenate([state_BS, np.full((len(state_BS), 1), self.nodes)], axis=1)
            grown[row_B, size_B] = child_BN[row_B, last_B]
            return grown[:, :-1]
        if word == PARENT:
            before_B = parent_BN[row_B, state_BS[:, 0]]
            grown = np.concatenate([before_B[:, None], state_BS[:, :-1]], axis=1)
            return np.where((before_B == self.nodes)[:, None], state_BS, grown)
        return self._walk(state_BS, parent_BN, last_B)

    def _walk(self, state_BS: Ints, parent_BN: Ints, last_B: Ints) -> Ints:
        """Up from either end until the other is met; a list whose ends are on no chain together stays as it is."""
        place_S = np.arange(state_BS.shape[1])
        up = climb(parent_BN, last_B, steps=len(place_S))
        to_first_B = (up == state_BS[:, :1]).argmax(axis=1)
        down_BS = taken(up, to_first_B[:, None] - place_S, none=self.nodes)
        back = climb(parent_BN, state_BS[:, 0], steps=len(place_S))
        to_last_B = (back == last_B[:, None]).argmax(axis=1)
        back_BS = np.where(place_S <= to_last_B[:, None], back, self.nodes)
        is_below = (up == state_BS[:, :1]).any(axis=1)[:, None]
        is_above = (back == last_B[:, None]).any(axis=1)[:, None]
        return np.where(is_below, down_BS, np.where(is_above, back_BS, state_BS))

    def end(self, state_BS: Ints) -> Ints:
        answer_BA = state_BS[:, : self.path]
        return np.where(answer_BA == self.nodes, self.mark("end"), answer_BA)

    def links(self, question_BQ: Ints) -> tuple[Ints, Ints]:
        """The parent and the child of each label, [B, N + 1] twice; `nodes`: it has none, or (the centre) several."""
        row_B1 = np.arange(len(question_BQ))[:, None]
        edge_BE2 = question_BQ[:, :-4].reshape(len(question_BQ), -1, 3)[..., :2]
        parent_BN = np.full((len(question_BQ), self.nodes + 1), self.nodes)
        child_BN = parent_BN.copy()
        parent_BN[row_B1, edge_BE2[..., 1]] = edge_BE2[..., 0]
        child_BN[row_B1, edge_BE2[..., 0]] = edge_BE2[..., 1]
        if self.deg > 1:
            up = climb(parent_BN, edge_BE2[:, 0, 0], steps=self.path)
            to_centre_B1 = (up != self.nodes).sum(axis=1, keepdims=True) - 1
            child_BN[row_B1, np.take_along_axis(up, to_centre_B1, axis=1)] = self.nodes
        return parent_BN, child_BN

    def verify(self, batch: Batch, answer_BA: Tensor) -> Tensor:
        """1 for a way along edges of the question, of which the right answer only tells where it begins and ends."""
        right = self.layout.answers(batch).cpu().numpy()
        answer = answer_BA.cpu().numpy()
        parent_BN, _ = self.links(self.layout.questions(batch).cpu().numpy())
        row_B1 = np.arange(len(answer))[:, None]
        node_BA = np.where((answer >= 0) & (answer < self.nodes), answer, self.nodes)
        one_BH, next_BH = node_BA[:, :-1], node_BA[:, 1:]
        is_edge_BH = (parent_BN[row_B1, one_BH] == next_BH) | (parent_BN[row_B1, next_BH] == one_BH)
        is_way_B = (is_edge_BH & (one_BH != self.nodes) & (next_BH != self.nodes)).all(axis=1)
        met_B = (answer[:, [0, -1]] == right[:, [0, -1]]).all(axis=1)
        return torch.from_numpy(is_way_B & met_B).float().to(answer_BA.device)

    def means(self, prompt: Prompt, question_BQ: Tensor) -> Tensor:
        """Nothing where a goal is asked for by a name that no way leads to."""
        question = question_BQ.cpu().numpy()
        parent_BN, _ = self.links(question)
        lost_B = parent_BN[np.arange(len(question)), question[:, -2]] == self.nodes
        lost_B1 = torch.from_numpy(lost_B)[:, None].to(question_BQ.device)
        return super().means(prompt, question_BQ).masked_fill(lost_B1, IGNORE)


def shuffled(values: Ints, rng: np.random.Generator) -> Ints:
    """Each row in an order of its own."""
    order: Ints = rng.random(values.shape).argsort(axis=1)
    return np.take_along_axis(values, order, axis=1)


def taken(list_BS: Ints, place_BS: Ints, *, none: int) -> Ints:
    """The nodes at some places of each row's list; `none` at places before its first."""
    return np.where(place_BS < 0, none, np.take_along_axis(list_BS, place_BS.clip(min=0), axis=1))


def climb(parent_BN: Ints, node_B: Ints, *, steps: int) -> Ints:
    """A node, its parent, the parent of that, ...: [B, steps]."""
    row_B, way = np.arange(len(node_B)), [node_B]
    for _ in range(steps - 1):
        way.append(parent_BN[row_B, way[-1]])
    return np.stack(way, axis=1)
