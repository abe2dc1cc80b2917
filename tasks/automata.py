"""Random probabilistic automata: sequences whose best possible prediction is known exactly.

    automaton 7    state 0: a 0.61 -> 3, d 0.30 -> 5, ...    state 3: k 0.88 -> 3, b 0.07 -> 0, ...
    a sequence     a k k k k b d ...

State and symbol determine the next state (the automaton is unifilar). So whoever knows the
automaton and its state needs H = sum_q pi_q H(p(.|q)) bits per symbol, the entropy rate, where pi
is the stationary distribution of the states.
Source: Shannon 1948, section 7; Crutchfield & Young 1989, doi 10.1103/PhysRevLett.63.105.

Shapes: J automata, Q states (from), R states (to), A symbols, B batch, T time.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from ttt.stream import Batch, Ints, spread, whole_rows
from ttt.tasks.machinery.endless import Endless

Floats = NDArray[np.float64]
# The first part of the key of every eval generator: no typed seed leads to the same numbers.
EVAL = 0x6576616C
# Bounds of the concentration: below, a symbol is all but certain; above, all are equally likely.
LEAST, MOST = 0.001, 1000
# Rarer links do not count: no sequence would show them, and float64 could not weigh them.
LINK = 1e-6


@dataclass(kw_only=True, eq=False)
class Automata(Endless):
    """One class per automaton. Arguments are explained in conf/source/automata.yaml."""

    name: str
    num_automata: Annotated[int, Ge(1)]
    num_states: Annotated[int, Ge(1)]
    num_symbols: Annotated[int, Ge(2)]
    concentration: Annotated[float, Interval(ge=LEAST, le=MOST)]
    automata_seed: Annotated[int, Ge(0)]
    vocab_size: int = field(init=False)
    fingerprint: str = field(init=False)
    symbols: range = field(init=False)
    rows: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.vocab_size, self.symbols = self.num_symbols, range(self.num_symbols)
        self._emission, self._next = self._make()
        self._start = stationary(self._emission, self._next)
        self._rate = entropy_rate(self._emission, self._next)
        # A draw inverts the CDF: a uniform number picks the
        # first symbol whose cumulative share exceeds it.
        self._steps, self._start_steps = np.cumsum(self._emission, axis=-1), np.cumsum(self._start, axis=-1)
        # The last step must be exactly 1: otherwise a uniform number just below 1 finds no symbol.
        self._steps /= self._steps[..., -1:]
        self._start_steps /= self._start_steps[..., -1:]
        self.fingerprint = hashlib.sha256(self._emission.tobytes() + self._next.tobytes()).hexdigest()

    def _make(self) -> tuple[Floats, Ints]:
        """Draw emissions from a Dirichlet and successors uniformly: [J, Q, A] twice."""
        rng = np.random.default_rng(self.automata_seed)
        shape = (self.num_automata, self.num_states)
        emission, following = np.zeros((*shape, self.num_symbols)), np.zeros((*shape, self.num_symbols), np.int64)
        redo = np.arange(self.num_automata)
        # Drawn again where states fall into separate parts: there is then no single entropy rate.
        while len(redo):
            size = (len(redo), self.num_states)
            emission[redo] = rng.dirichlet(np.full(self.num_symbols, self.concentration), size=size)
            following[redo] = rng.integers(0, self.num_states, size=(*size, self.num_symbols))
            redo = redo[~has_one_recurrent_class(emission[redo], following[redo])]
        return emission, following

    def families(self) -> Sequence[Sequence[int]]:
        return [[index] for index in range(self.num_automata)]

    def class_name(self, index: int) -> str:
        return f"automaton {index}"

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        # The first state takes one number, and so do each of `length` tokens and the last target.
        return self._run(rng.choice(classes, size=rows), rng.random((rows, length + 2)))

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        # One generator per automaton: its rows do not depend on what else is in a task.
        classes_B = classes[spread(rows, over=len(classes))]
        uniform = [
            np.random.default_rng([EVAL, self.automata_seed, int(c)]).random((len(list(run)), length + 2))
            for c, run in groupby(classes_B)
        ]
        return self._run(classes_B, np.concatenate(uniform))

    def entropy(self, classes: Ints) -> float:
        """Return the mean exact entropy rate in bits per token, for automaton and state known.

        A model that must first infer both from the sequence needs more; the shorter the sequence,
        the more.
        """
        return float(self._rate[classes].mean())

    def bits(self, batch: Batch, *, classes: Ints) -> Floats:
        """Return the bits of every target for a reader who knows the automata: [B, T].

        Row b comes from automaton classes[b] and begins in a state drawn from pi.
        """
        emission_BQA, next_BQA = self._emission[classes], self._next[classes]
        row_B = np.arange(len(classes))
        window = np.concatenate([batch.tokens_BT.numpy(), batch.targets_BT.numpy()[:, -1:]], axis=1)
        # The forward algorithm: a belief over states, normalised after every symbol.
        belief_BQ, bits_BT = self._start[classes], np.zeros(window.shape)
        for t, symbol_B in enumerate(window.T):
            # This is p(state, symbol | symbols before), whose sum is the probability of the symbol.
            joint_BQ = belief_BQ * emission_BQA[row_B, :, symbol_B]
            total_B = joint_BQ.sum(axis=1)
            bits_BT[:, t] = -np.log2(total_B)
            arrives_BQR = next_BQA[row_B, :, symbol_B][:, :, None] == np.arange(self.num_states)
            belief_BQ = (joint_BQ[:, :, None] * arrives_BQR).sum(axis=1) / total_B[:, None]
        # The first symbol of a row is never a target.
        return bits_BT[:, 1:]

    def show(self, tokens: Ints) -> str:
        letters = string.ascii_letters
        return "".join(letters[t] if t < len(letters) else f"<{t}>" for t in tokens)

    def _run(self, classes_B: Ints, uniform_BT: Floats) -> Batch:
        """Draw sequences by inverse CDF from uniform numbers in [0, 1).

        The first column of numbers picks the state; each of the others picks one symbol.
        """
        first_B = np.arange(len(classes_B)) * self.num_states
        # The tables of all rows, one below the other: a state is then the number of a line.
        steps = self._steps[classes_B].reshape(-1, self.num_symbols)
        following = (self._next[classes_B] + first_B[:, None, None]).reshape(-1)
        state_B = first_B + (uniform_BT[:, :1] >= self._start_steps[classes_B]).sum(axis=1)
        window = np.empty((uniform_BT.shape[1] - 1, len(classes_B)), dtype=np.int64)
        for symbol_B, uniform_B in zip(window, uniform_BT.T[1:, :, None], strict=True):
            # argmax of booleans is the first True; `out` writes the symbols into the window.
            (steps[state_B] > uniform_B).argmax(axis=1, out=symbol_B)
            state_B = following[state_B * self.num_symbols + symbol_B]
        return whole_rows(window.T[:, :-1], window.T[:, 1:])


def transitions(emission: Floats, following: Ints) -> Floats:
    """Return the probabilities to go from state q to state r: [..., Q, R].

    `emission` [..., Q, A] holds p(a|q), `following` [..., Q, A] the state after symbol a in q.
    """
    *shape, size, _ = emission.shape
    # Symbols that lead to the same state add up: one flat bin for every pair (q, r).
    line = np.arange(emission[..., 0].size).reshape(*shape, size, 1)
    sums = np.bincount((line * size + following).ravel(), emission.ravel(), minlength=line.size * size)
    return sums.reshape(*shape, size, size).astype(np.float64)


def stationary(emission: Floats, following: Ints) -> Floats:
    """Return pi, the distribution of states that a step does not change: [..., Q].

    States to which no path leads back have probability 0.
    """
    moves = transitions(emission, following)
    size = moves.shape[-1]
    # pi (P - I) = 0 has one redundant equation; sum(pi) = 1 replaces it.
    system = np.swapaxes(moves, -1, -2) - np.eye(size)
    system[..., -1, :] = 1
    right = np.zeros((*moves.shape[:-1], 1))
    right[..., -1, :] = 1
    pi = np.linalg.solve(system, right)[..., 0].clip(min=0) * recurrent(moves > 0)
    return pi / pi.sum(axis=-1, keepdims=True)


def entropy_rate(emission: Floats, following: Ints) -> Floats:
    """Return sum_q pi_q H(p(.|q)) in bits per symbol: [...]."""
    surprise = -np.log2(emission, where=emission > 0, out=np.zeros_like(emission))
    rate: Floats = np.einsum("...q,...qa,...qa->...", stationary(emission, following), emission, surprise)
    return rate


def reach(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether state r can be reached from state q in zero or more steps: [..., Q, R]."""
    paths = links | np.eye(links.shape[-1], dtype=bool)
    # Each squaring doubles the length of the paths.
    # For booleans @ is an "or" over "and": it finds paths of two links.
    for _ in range(int(links.shape[-1]).bit_length()):
        paths = paths @ paths
    return paths


def recurrent(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether every state that q reaches leads back to q: [..., Q]."""
    paths = reach(links)
    # ~p | q reads "p implies q": whatever q reaches can reach q.
    lead_back: NDArray[np.bool_] = np.all(~paths | np.swapaxes(paths, -1, -2), axis=-1)
    return lead_back


def has_one_recurrent_class(emission: Floats, following: Ints) -> NDArray[np.bool_]:
    """Return whether all recurrent states reach each other, which makes pi unique: [...]."""
    links = transitions(emission, following) > LINK
    paths = reach(links)
    back = recurrent(links)
    meet: NDArray[np.bool_] = np.all(paths | ~(back[..., :, None] & back[..., None, :]), axis=(-1, -2))
    return meet
