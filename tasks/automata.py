"""Random probabilistic automata: sequences whose best possible prediction is known exactly.

    automaton 7    state 0: a 0.61 -> 3, d 0.30 -> 5, ...    state 3: k 0.88 -> 3, b 0.07 -> 0, ...
    a sequence     a k k k k b d ...

The next state follows from state and symbol (unifilar), so whoever knows the automaton and its state needs
H = sum_q pi_q H(p(.|q)) bits a symbol, pi being the stationary distribution of the states: the entropy rate.
Source: Shannon 1948, section 7; Crutchfield & Young 1989, doi 10.1103/PhysRevLett.63.105.

Shapes: J automata, Q states, A symbols, B batch, T time.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ttt.stream import Batch, Ints, spread, whole_rows

Floats = NDArray[np.float64]
# First in the key of every eval generator: no seed that anyone types leads to the same numbers.
EVAL = 0x6576616C
# Of the concentration: symbols are as good as certain at the one end, and as good as even at the other.
LEAST, MOST = 0.001, 1000
# A link that is taken less often is none: no sequence would show it, and float64 could not weigh it.
LINK = 1e-6


@dataclass(kw_only=True, eq=False)
class Automata:
    """One class per automaton. Arguments are explained in conf/source/automata.yaml."""

    name: str
    num_automata: int
    num_states: int
    num_symbols: int
    concentration: float
    automata_seed: int
    vocab_size: int = field(init=False)
    fingerprint: str = field(init=False)
    symbols: range = field(init=False)
    example_len: int | None = field(init=False, default=None)
    vector_size: int | None = field(init=False, default=None)
    labels: range = field(init=False, default=range(0))
    rows: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for argument, least in {"num_automata": 1, "num_states": 1, "num_symbols": 2, "automata_seed": 0}.items():
            if getattr(self, argument) < least:
                raise ValueError(f"source.{argument}={getattr(self, argument)}: must be at least {least}")
        if not LEAST <= self.concentration <= MOST:
            raise ValueError(f"source.concentration={self.concentration}: must lie between {LEAST} and {MOST}")
        self.vocab_size, self.symbols = self.num_symbols, range(self.num_symbols)
        self._emission, self._next = self._make()
        self._start = stationary(self._emission, self._next)
        self._rate = entropy_rate(self._emission, self._next)
        self._steps, self._start_steps = np.cumsum(self._emission, axis=-1), np.cumsum(self._start, axis=-1)
        # So that the last step is exactly 1, and a symbol of probability 0 has no width.
        self._steps /= self._steps[..., -1:]
        self._start_steps /= self._start_steps[..., -1:]
        self.fingerprint = hashlib.sha256(self._emission.tobytes() + self._next.tobytes()).hexdigest()

    def _make(self) -> tuple[Floats, Ints]:
        """Emissions from a Dirichlet, successors evenly; again for all whose states fall into parts."""
        rng = np.random.default_rng(self.automata_seed)
        shape = (self.num_automata, self.num_states)
        emission, following = np.zeros((*shape, self.num_symbols)), np.zeros((*shape, self.num_symbols), np.int64)
        redo = np.arange(self.num_automata)
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
        return self._run(rng.choice(classes, size=rows), rng.random((rows, length + 2)))

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        classes_B = classes[spread(rows, over=len(classes))]
        uniform = [
            np.random.default_rng([EVAL, self.automata_seed, int(c)]).random((len(list(same)), length + 2))
            for c, same in groupby(classes_B)
        ]
        return self._run(classes_B, np.concatenate(uniform))

    def eval_examples(self, classes: Ints) -> int | None:
        return None

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        return None

    def take(self, units: Ints, *, length: int) -> Batch:
        raise AssertionError("automata have no units: sequences are made up as they are asked for")

    def per_row(self, *, length: int) -> int:
        raise AssertionError("automata have no units: sequences are made up as they are asked for")

    def entropy(self, classes: Ints) -> float:
        """Mean exact entropy rate, in bits a token: what one needs who knows automaton and state.

        Whoever must first find out both from the sequence needs more, the more the shorter it is.
        """
        return float(self._rate[classes].mean())

    def bits(self, batch: Batch, *, classes: Ints) -> Floats:
        """Bits of every target, [B, T], for one who knows that row b is of classes[b] and begins in a state from pi."""
        emission_BQA, next_BQA = self._emission[classes], self._next[classes]
        row_B = np.arange(len(classes))
        window = np.concatenate([batch.tokens_BT.numpy(), batch.targets_BT.numpy()[:, -1:]], axis=1)
        belief_BQ, bits_BT = self._start[classes], np.zeros(window.shape)
        for t, symbol_B in enumerate(window.T):
            joint_BQ = belief_BQ * emission_BQA[row_B, :, symbol_B]
            total_B = joint_BQ.sum(axis=1)
            bits_BT[:, t] = -np.log2(total_B)
            arrived_BQQ = next_BQA[row_B, :, symbol_B][:, :, None] == np.arange(self.num_states)
            belief_BQ = (joint_BQ[:, :, None] * arrived_BQQ).sum(axis=1) / total_B[:, None]
        return bits_BT[:, 1:]

    def show(self, tokens: Ints) -> str:
        letters = string.ascii_letters
        return "".join(letters[t] if t < len(letters) else f"<{t}>" for t in tokens)

    def _run(self, classes_B: Ints, uniform_BT: Floats) -> Batch:
        """Sequences by inverse CDF: the first column of uniforms picks the state, the others a symbol each."""
        first_B = np.arange(len(classes_B)) * self.num_states
        # All rows' tables below each other: a state is then its line in them.
        steps = self._steps[classes_B].reshape(-1, self.num_symbols)
        following = (self._next[classes_B] + first_B[:, None, None]).reshape(-1)
        state_B = first_B + (uniform_BT[:, :1] >= self._start_steps[classes_B]).sum(axis=1)
        window = np.empty((uniform_BT.shape[1] - 1, len(classes_B)), dtype=np.int64)
        for symbol_B, uniform_B in zip(window, uniform_BT.T[1:, :, None], strict=True):
            (steps[state_B] > uniform_B).argmax(axis=1, out=symbol_B)
            state_B = following[state_B * self.num_symbols + symbol_B]
        return whole_rows(window.T[:, :-1], window.T[:, 1:])


def transitions(emission: Floats, following: Ints) -> Floats:
    """[..., q, r]: probability to go from state q to r, of [..., q, a]: p(a|q) and the state after a in q."""
    *shape, size, _ = emission.shape
    line = np.arange(emission[..., 0].size).reshape(*shape, size, 1)
    sums = np.bincount((line * size + following).ravel(), emission.ravel(), minlength=line.size * size)
    return sums.reshape(*shape, size, size).astype(np.float64)


def stationary(emission: Floats, following: Ints) -> Floats:
    """pi: the one distribution of states that a step leaves as it is; states never come back to have 0."""
    moves = transitions(emission, following)
    size = moves.shape[-1]
    # pi (P - 1) = 0 has one equation too many, in whose place the sum of pi comes.
    system = np.swapaxes(moves, -1, -2) - np.eye(size)
    system[..., -1, :] = 1
    right = np.zeros((*moves.shape[:-1], 1))
    right[..., -1, :] = 1
    pi = np.linalg.solve(system, right)[..., 0].clip(min=0) * recurrent(moves > 0)
    return pi / pi.sum(axis=-1, keepdims=True)


def entropy_rate(emission: Floats, following: Ints) -> Floats:
    """sum_q pi_q H(p(.|q)), in bits a symbol."""
    surprise = -np.log2(emission, where=emission > 0, out=np.zeros_like(emission))
    rate: Floats = np.einsum("...q,...qa,...qa->...", stationary(emission, following), emission, surprise)
    return rate


def reach(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[..., q, r]: is r reached from q in any number of steps, none included?"""
    paths = links | np.eye(links.shape[-1], dtype=bool)
    for _ in range(int(links.shape[-1]).bit_length()):
        paths = paths @ paths
    return paths


def recurrent(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """States to which every state that they reach leads back."""
    paths = reach(links)
    lead_back: NDArray[np.bool_] = np.all(~paths | np.swapaxes(paths, -1, -2), axis=-1)
    return lead_back


def has_one_recurrent_class(emission: Floats, following: Ints) -> NDArray[np.bool_]:
    """Do all recurrent states reach each other? Then pi is unique, and so is the entropy rate."""
    paths = reach(links := transitions(emission, following) > LINK)
    back = recurrent(links)
    meet: NDArray[np.bool_] = np.all(paths | ~(back[..., :, None] & back[..., None, :]), axis=(-1, -2))
    return meet
