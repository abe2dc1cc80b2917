"""Random automata: entropy rates by hand, code lengths by counting, draws, refusals."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt.config.build import build
from ttt.run.compose import compose_run
from ttt.stream import IGNORE
from ttt.tasks.automata import Automata, entropy_rate, has_one_recurrent_class, stationary, transitions

PHI = (1 + 5**0.5) / 2


def automata(**options):
    arguments = {"num_automata": 50, "num_states": 8, "num_symbols": 16, "concentration": 0.15, "automata_seed": 0}
    return Automata(name="automata", **(arguments | options))


@pytest.fixture(scope="module")
def source():
    return automata()


def bits_of(*probabilities):
    return -sum(p * np.log2(p) for p in probabilities if p > 0)


@settings(deadline=None)
@given(st.floats(0.01, 0.99))
def test_golden_mean_process(p):
    """No two 1s in a row: a 1 (probability p) leads to state 1, from which only a 0 leads back."""
    emission, following = np.array([[1 - p, p], [1.0, 0.0]]), np.array([[0, 1], [0, 0]])
    np.testing.assert_allclose(stationary(emission, following), [1 / (1 + p), p / (1 + p)])
    np.testing.assert_allclose(entropy_rate(emission, following), bits_of(p, 1 - p) / (1 + p))


def test_golden_mean_process_of_largest_entropy():
    """The number of sequences without two 1s grows by the golden mean per symbol (Shannon 1948)."""
    p = 1 / PHI**2
    rate = entropy_rate(np.array([[1 - p, p], [1.0, 0.0]]), np.array([[0, 1], [0, 0]]))
    np.testing.assert_allclose(rate, np.log2(PHI))


def test_states_that_never_come_back_have_no_weight():
    """State 0 leads to the states 1 and 2, and no path leads back to it."""
    emission = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    following = np.array([[1, 2], [1, 2], [1, 0]])
    pi = stationary(emission, following)
    np.testing.assert_allclose(pi, [0, 4 / 7, 3 / 7])
    assert pi[0] == 0
    assert has_one_recurrent_class(emission, following)


def test_states_in_separate_parts_are_detected():
    emission = np.full((3, 2), 0.5)
    assert not has_one_recurrent_class(emission, np.array([[0, 0], [1, 1], [0, 1]]))
    assert has_one_recurrent_class(emission, np.array([[1, 1], [0, 0], [0, 1]]))
    # No sequence would show a link with a probability of one in a billion.
    rare = np.array([[1.0, 0.0], [1 - 1e-9, 1e-9]])
    assert not has_one_recurrent_class(rare, np.array([[0, 0], [1, 0]]))


@settings(deadline=None)
@given(states=st.integers(1, 12), symbols=st.integers(2, 9), concentration=st.floats(0.02, 5), seed=st.integers(0, 99))
def test_a_step_does_not_change_pi(states, symbols, concentration, seed):
    drawn = automata(num_automata=3, num_states=states, num_symbols=symbols, concentration=concentration,
                     automata_seed=seed)  # fmt: skip
    moves, pi = transitions(drawn._emission, drawn._next), drawn._start
    np.testing.assert_allclose(moves.sum(-1), 1)
    np.testing.assert_allclose((pi[:, None] @ moves)[:, 0], pi, atol=1e-9)
    assert ((drawn._rate >= 0) & (drawn._rate <= np.log2(symbols) + 1e-9)).all()
    for c in range(3):
        by_hand = sum(pi[c, q] * bits_of(*drawn._emission[c, q]) for q in range(states))
        np.testing.assert_allclose(drawn.entropy(np.array([c])), by_hand, atol=1e-12)


@pytest.mark.parametrize("index", [0, 17, 42])
def test_long_samples_cost_the_exact_rate(index, source):
    """The mean code length under the true automaton lies within three standard errors over rows."""
    rows, classes = 48, np.array([index])
    batch = source.draw(classes, rows=rows, length=4000, rng=np.random.default_rng(1))
    costs = source.bits(batch, classes=np.full(rows, index))[:, 100:].mean(axis=1)
    error = costs.std(ddof=1) / rows**0.5
    assert abs(costs.mean() - source.entropy(classes)) < 3 * error
    # Another automaton needs far more bits, or gives the sequence probability 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        wrong = source.bits(batch, classes=np.full(rows, index + 1))
    assert not (wrong.mean() < source.entropy(classes) + 0.5)


def test_code_length_by_hand():
    """The probability of a sequence is the sum over all first states."""
    source = automata(num_automata=2, num_states=3, num_symbols=2, concentration=1.0)
    batch = source.draw(np.array([0, 1]), rows=4, length=5, rng=np.random.default_rng(0))
    classes = np.array([0, 1, 0, 1])
    bits_BT = source.bits(batch, classes=classes)

    def probability(c, symbols):
        total = 0.0
        for state, p in enumerate(source._start[c]):
            for symbol in symbols:
                p *= source._emission[c, state, symbol]
                state = source._next[c, state, symbol]
            total += p
        return total

    for b, c in enumerate(classes):
        window = [*batch.tokens_BT[b].tolist(), int(batch.targets_BT[b, -1])]
        expected = [-np.log2(probability(c, window[: t + 2]) / probability(c, window[: t + 1])) for t in range(5)]
        np.testing.assert_allclose(bits_BT[b], expected)


def test_sequences_are_what_the_automaton_emits(source):
    """The first and the last symbol are as frequent as pi and the emissions say."""
    batch = source.draw(np.array([3]), rows=4000, length=20, rng=np.random.default_rng(0))
    expected = source._start[3] @ source._emission[3]
    for column in (0, 19):
        counts = np.bincount(batch.tokens_BT[:, column], minlength=16)
        error = np.sqrt(4000 * expected * (1 - expected)) + 1e-9
        assert (np.abs(counts - 4000 * expected) < 4.5 * error).all()


def test_only_the_wanted_classes_are_drawn_and_evenly():
    """Two automata that all but repeat one symbol: a row shows which automaton it comes from."""
    source = automata(num_automata=30, num_states=1, concentration=0.001)
    favourite = source._emission[:, 0].argmax(axis=1)
    other = int(np.flatnonzero(favourite != favourite[0])[0])
    batch = source.draw(np.array([0, other]), rows=400, length=8, rng=np.random.default_rng(0))
    is_first, is_other = ((batch.tokens_BT == int(favourite[c])).all(1).numpy() for c in (0, other))
    assert (is_first ^ is_other).all()
    # Four standard deviations of a binomial.
    assert abs(is_first.sum() - 200) < 4 * 10


def test_content_is_a_pure_function(source):
    classes, again = np.arange(50), automata()
    assert source.fingerprint == again.fingerprint != automata(automata_seed=1).fingerprint
    first, same, other = (
        s.draw(classes, rows=4, length=64, rng=np.random.default_rng(seed))
        for s, seed in ((source, 0), (again, 0), (source, 1))
    )
    assert (first.tokens_BT == same.tokens_BT).all()
    assert not (first.tokens_BT == other.tokens_BT).all()
    assert (first.tokens_BT[:, 1:] == first.targets_BT[:, :-1]).all()
    assert (first.targets_BT != IGNORE).all()
    evals = [s.evaluation(classes, rows=4, length=64) for s in (source, again)]
    assert (evals[0].tokens_BT == evals[1].tokens_BT).all()


def rows_as_bytes(batch):
    return {row.numpy().tobytes() for row in batch.tokens_BT}


@settings(deadline=None)
@given(seed=st.integers(0, 60), key=st.lists(st.integers(0, 60), max_size=3))
def test_train_and_eval_draws_differ(seed, key):
    source = automata(num_automata=4, automata_seed=seed)
    held_out = rows_as_bytes(source.evaluation(np.arange(4), rows=12, length=40))
    assert len(held_out) == 12
    drawn = source.draw(np.arange(4), rows=64, length=40, rng=np.random.default_rng([seed, *key]))
    assert not rows_as_bytes(drawn) & held_out


def test_evaluation_spreads_over_classes(source):
    """Rows are the first ones of each class; fewer rows than classes take some classes evenly."""
    first = {c: source.evaluation(np.array([c]), rows=1, length=32).tokens_BT[0].tolist() for c in range(50)}
    some = source.evaluation(np.arange(50), rows=5, length=32).tokens_BT.tolist()
    assert some == [first[c] for c in (0, 12, 24, 36, 49)]
    more = source.evaluation(np.array([7, 3]), rows=5, length=32).tokens_BT.tolist()
    assert [more[0], more[3]] == [first[7], first[3]]
    assert more[:3] == source.evaluation(np.array([7]), rows=3, length=32).tokens_BT.tolist()


def test_drawing_is_fast():
    source = automata(num_automata=2000)
    rng, times = np.random.default_rng(0), []
    for _ in range(50):
        start = time.perf_counter()
        source.draw(np.arange(2000), rows=16, length=256, rng=rng)
        times.append(time.perf_counter() - start)
    # It takes 2 ms on an idle core, but other tests share the core.
    assert min(times) < 0.01


def test_the_defaults_have_the_entropies_that_their_yaml_states():
    for concentration, bits in ((0.1, 1.65), (0.15, 2.04), (0.2, 2.29)):
        rates = automata(num_automata=2000, concentration=concentration)._rate
        assert round(float(rates.mean()), 2) == bits
        if concentration == 0.15:
            assert np.percentile(rates, [5, 95]).round(1).tolist() == [1.6, 2.4]
    built = build(compose_run(["source=automata"])["source"], group="source", given={}, trusted=[])
    assert built.fingerprint == automata(num_automata=2000).fingerprint
    assert built.vocab_size == 16


@pytest.mark.parametrize(
    ("argument", "value", "typed"),
    [
        ("num_automata", 0, "0"),
        ("num_states", 0, "0"),
        ("num_symbols", 1, "1"),
        ("automata_seed", -1, "-1"),
        ("concentration", 0.0, "0.0"),
        ("concentration", 1001, "1001"),
        ("concentration", float("nan"), "(?i:nan)"),
    ],
)
def test_impossible_automata_are_refused(argument, value, typed):
    config = compose_run(["source=automata"])["source"] | {argument: value}
    with pytest.raises(ValueError, match=rf"^source\.{argument}={typed}: "):
        build(config, group="source", given={}, trusted=[])


def test_symbols_are_shown_as_letters(source):
    assert source.show(np.array([0, 1, 15, 2])) == "abpc"
    assert automata(num_symbols=60).show(np.array([25, 26, 51, 52])) == "zAZ<52>"
