"""The causality probe: leaks made on purpose are caught, adapters that ship with the project pass."""

from __future__ import annotations

import pytest
import torch
from leaking import CHUNK, SEEN, counting
from tiny_adapters import LENGTH, SMALLER, VARIANTS, VOCAB, make, name_of, read, tokens

from ttt.learner import Learner
from ttt.probes.causality import ProbeSizes, Verdict, modes_of, probe_causality
from ttt.probes.checks import TOLERANCE

LATER = {"score before update", "state from earlier tokens"}
# reset, leak, the conditions that are broken, and the check that is meant for it.
LEAKS = [
    ("task", "itself", LATER, "token itself"),
    ("task", "targets", LATER, "token itself"),
    ("task", "border", LATER, "token itself"),
    ("task", "chunk", LATER, "later tokens"),
    ("sequence", "twice", LATER | {"single pass"}, "end to beginning"),
    ("task", "memory", LATER | {"single pass"}, "second reading"),
    ("task", "lanes", {"state from earlier tokens"}, "other rows"),
    ("task", "padding", {"state from earlier tokens"}, "left padding"),
    ("task", "pieces", {"state from earlier tokens"}, "in pieces"),
    ("sequence", "in place", {"state from earlier tokens"}, "state read from"),
    ("sequence", "in place", {"state from earlier tokens"}, "states of pieces"),
    ("sequence", "documents", {"state reset"}, "other documents"),
    ("sequence", "sequence", {"state reset"}, "next sequence"),
    ("sequence", "off", {"state reset"}, "writes off"),
    ("task", "task", {"state reset"}, "next task"),
]


def probed(learner: Learner, *, chunk: int | None = CHUNK) -> Verdict:
    sizes = ProbeSizes.within(learner, length=LENGTH, chunk=chunk)
    return probe_causality(learner, tokens(1, rows=2), chunk=chunk, sizes=sizes)


def probed_briefly(learner: Learner, *, chunk: int | None = CHUNK) -> Verdict:
    sizes = ProbeSizes.brief(length=LENGTH, chunk=chunk)
    return probe_causality(learner, tokens(1, rows=1), chunk=chunk, sizes=sizes)


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_adapters_know_no_future(variant):
    """Bit for bit on a CPU, except where another shape rounds differently."""
    adapter, options = variant
    learner = make(adapter, **options).float()
    chunk = (SMALLER | options)["chunk"]
    verdict = probed(learner, chunk=chunk)
    assert not verdict.leaks
    assert set(verdict.profiles) == set(modes_of(learner))
    assert {check.size for check in verdict.checks if check.what != "in pieces"} == {0}
    # The control: what was compared does depend on tokens, and on writes.
    assert all(profile[LENGTH] > TOLERANCE for profile in verdict.profiles.values())
    assert verdict.writes_move is None or verdict.writes_move > TOLERANCE
    assert probed_briefly(learner, chunk=chunk).line() == verdict.line()


@pytest.mark.parametrize(("reset", "leak", "conditions", "what"), LEAKS)
def test_a_leak_is_caught_where_it_is(reset, leak, conditions, what):
    verdict = probed(counting(reset=reset, leak=leak))
    # What leaks is also seen by readings that differ in their layout.
    layouts = {"left padding", "packed documents", "in pieces", "states of pieces", "other documents"}
    by_layout = layouts - {what}
    broken = {check.condition for check in verdict.leaks if check.what not in by_layout}
    assert what in {check.what for check in verdict.leaks}
    assert broken == conditions - ({"state from earlier tokens"} if leak in ("itself", "targets", "border") else set())
    assert all(f"NOT {condition}" in verdict.line() for condition in broken)


@pytest.mark.parametrize("leak", ["itself", "targets", "chunk", "border", "twice", "memory", "lanes", "task"])
def test_a_few_flips_catch_a_leak_too(leak):
    assert "NOT " in probed_briefly(counting(leak=leak)).line()


@pytest.mark.parametrize("reset", ["sequence", "task", "never"])
def test_the_adapter_of_these_tests_is_honest_without_a_leak(reset):
    assert probed(counting(reset=reset)).line().endswith(f"single pass, reset={reset}")


@pytest.mark.parametrize("leak", sorted(SEEN))
def test_changes_stand_at_the_distances_that_the_leak_reaches(leak):
    """Against the definition: the score at t counts the token at s where SEEN says so."""
    profile = probed(counting(leak=leak)).profiles["fast"]
    reached = {t - s for t in range(LENGTH) for s in range(1, LENGTH) if SEEN[leak](t, s) and s > t}
    assert {at - LENGTH for at in range(LENGTH) if profile[at] > 0} == reached


@torch.no_grad()
def test_the_size_of_a_leak_is_what_reading_twice_by_hand_gives():
    """An independent loop: one row, one changed token, one reading at a time."""
    learner, row_1T = counting(leak="chunk"), tokens(1, rows=1)
    verdict = probe_causality(learner, row_1T, chunk=CHUNK, sizes=ProbeSizes(LENGTH, LENGTH, 2))
    (leak,) = (x for x in verdict.leaks if (x.what, x.mode) == ("later tokens", "fast"))
    plain_1TV, moved = read(learner, row_1T), []
    for s in range(2, LENGTH):
        for token in range(VOCAB):
            other_1T = row_1T.clone()
            other_1T[0, s:] = token
            moved.append(float((read(learner, other_1T) - plain_1TV)[0, : s - 1].abs().max()))
    assert 0 < leak.size <= max(moved) / float(plain_1TV.abs().max()) + 1e-6


def test_scores_that_are_not_finite_cannot_be_compared():
    learner = make("none")
    with torch.no_grad():
        learner.model.embed_tokens.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="finite"):
        probed(learner)
