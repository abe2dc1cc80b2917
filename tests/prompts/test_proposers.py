"""Proposers: what they read, what they propose, and what a failure costs."""

from __future__ import annotations

import json
import logging
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_prompts import END, LAYOUT, PLACES, SEED, WORDS, World, make, problems, towards_five, words

from ttt.prompts.bench import Bench
from ttt.prompts.gepa_search import Playground, Silence
from ttt.prompts.proposers import BLIND, Informed, Mutate, TokenProposer, edits, failures, import_function
from ttt.prompts.rollouts import Rollouts

HIDDEN = words(1, 2, 3)


def changed(prompt, other):
    return [i for i, (a, b) in enumerate(zip(prompt, other, strict=True)) if a != b]


def failed(hidden=HIDDEN, *, rows=4, seed=0):
    """Return records of answers that were all wrong."""
    batch = problems(hidden, rows=rows, seed=seed)
    played = World(batch, lambda prompt, problem: 0.0)(torch.arange(rows), torch.tensor([SEED] * rows))
    return failures(batch, LAYOUT, played)


def test_a_record_holds_the_question_the_answer_and_the_right_answer():
    batch = problems(HIDDEN, rows=3)
    question_BQ, right_BA = LAYOUT.questions(batch), LAYOUT.answers(batch)
    answer_RA = torch.stack([right_BA[2], (right_BA[0] + 1) % 10, right_BA[1]])
    reward_R = torch.tensor([1.0, 0.0, 0.5])
    played = Rollouts(torch.tensor([2, 0, 1]), torch.tensor([SEED] * 3), answer_RA, torch.zeros(3, 3), reward_R)
    first, second = failures(batch, LAYOUT, played)
    assert first["question"] == question_BQ[0].tolist()
    assert first["question"][-1] == END
    assert first["answer"] == answer_RA[1].tolist()
    assert (first["right"], first["reward"], second["reward"]) == (right_BA[0].tolist(), 0.0, 0.5)
    text = " ".join(str(token) for token in first["right"])
    assert first["Feedback"] == f"reward 0; the right answer is {text}"
    assert first["Inputs"]["question"].split() == [str(token) for token in first["question"]]
    assert json.loads(json.dumps([first, second])) == [first, second]


@given(st.lists(st.integers(0, WORDS - 1), min_size=PLACES, max_size=PLACES), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("kind", [Mutate, Informed])
def test_exactly_one_word_changes(kind, numbers, seed):
    torch.manual_seed(seed)
    prompt = words(*numbers)
    child = TokenProposer(kind(LAYOUT), LAYOUT, forgive=False)(prompt, failed())
    assert len(changed(prompt, child)) == 1
    assert set(child) <= set(LAYOUT.words)


def test_mutations_reach_every_edit_evenly():
    torch.manual_seed(0)
    propose = TokenProposer(Mutate(LAYOUT), LAYOUT, forgive=False)
    count = Counter(propose(SEED, []) for _ in range(3000))
    assert set(count) == set(edits(SEED, LAYOUT.words))
    assert len(count) == PLACES * (WORDS - 1)
    # 200 each, with a standard deviation of 14.
    assert min(count.values()) > 140
    assert max(count.values()) < 260


def test_informed_chooses_the_edits_that_fit_what_failed():
    torch.manual_seed(0)
    propose, records = TokenProposer(Informed(LAYOUT), LAYOUT, forgive=False), failed(rows=12)
    count = Counter(propose(SEED, records) for _ in range(2000))
    # No other edit agrees with any right answer, so the short list is the right word in each place.
    fits = [words(1, 0, 0), words(0, 2, 0), words(0, 0, 3)]
    share = sum(count[prompt] for prompt in fits) / 2000
    expected = 1 - BLIND + BLIND * 3 / (PLACES * (WORDS - 1))
    assert abs(share - expected) < 0.04
    assert min(count[prompt] for prompt in fits) > 450
    # One time in five the edit is drawn from all of them.
    assert set(count) == set(edits(SEED, LAYOUT.words))


def test_informed_chooses_between_equal_edits_by_chance():
    """One word of the prompt is wrong: the edit that corrects it comes first, all others are equal."""
    torch.manual_seed(0)
    propose, records = TokenProposer(Informed(LAYOUT), LAYOUT, forgive=False), failed(rows=12)
    count = Counter(propose(words(1, 2, 0), records) for _ in range(1500))
    assert count.most_common(1)[0][0] == HIDDEN
    assert abs(count[HIDDEN] / 1500 - (1 - BLIND) / 3 - BLIND / 15) < 0.05


def test_informed_learns_where_mutate_stumbles():
    """After ten edits, informed has more of the hidden prompt than mutate."""

    def words_right(kind, seed):
        torch.manual_seed(seed)
        propose, prompt = TokenProposer(kind(LAYOUT), LAYOUT, forgive=False), SEED
        for _ in range(10):
            prompt = propose(prompt, failed())
        return PLACES - len(changed(prompt, HIDDEN))

    reached = {kind: sum(words_right(kind, seed) for seed in range(20)) for kind in (Mutate, Informed)}
    assert reached[Informed] > 2 * reached[Mutate]


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


RUBBISH = [
    None, "w1 w1 w1", {}, {"prompt": None}, {"prompt": 3}, {"other": "w1 w1 w1"}, {"prompt": ""}, {"prompt": "w1 w1"},
    {"prompt": "w1 w1 w1 w1"}, {"prompt": "w1 w1 4"}, {"prompt": "w1 w1 w9"}, {"prompt": "20 20 20"}, ["w1", "w1"],
]  # fmt: skip


@pytest.mark.parametrize("rubbish", RUBBISH, ids=repr)
def test_rubbish_costs_one_warning(rubbish, caplog):
    answers = [rubbish, rubbish, {"prompt": "w1 w2 w3"}, rubbish]
    propose = TokenProposer(lambda candidate, dataset, components: answers.pop(0), LAYOUT, forgive=True)
    assert [propose(SEED, []) for _ in range(4)] == [None, None, HIDDEN, None]
    (message,) = warned(caplog)
    assert message.startswith("adapter.propose: no proposal")


def test_a_function_that_would_end_the_program_costs_one_warning(caplog):
    def leaves(candidate, dataset, components):
        raise SystemExit(3)

    propose = TokenProposer(leaves, LAYOUT, forgive=True)
    assert [propose(SEED, []) for _ in range(2)] == [None, None]
    assert len(warned(caplog)) == 1


def test_a_function_that_raises_costs_one_warning_and_the_run_goes_on(caplog):
    batch = problems(HIDDEN, rows=12)
    pool, world = make(proposer="callable", propose="toy_prompts:raises"), World(batch, lambda prompt, problem: 0.0)
    state = pool.initial()
    for _ in range(3):
        outcome = pool.evolve(state, world, batch, budget=200)
        state = outcome.state
    assert outcome.used == 12 + 3 * 4
    assert pool.emitted(state).tolist() == [list(SEED)] * 4
    (message,) = warned(caplog)
    # Only the first line of the exception is shown.
    assert message.endswith("the reflection model is asleep")


def test_an_interrupt_is_no_failure():
    def stop(candidate, dataset, components):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TokenProposer(stop, LAYOUT, forgive=True)(SEED, [])


def test_our_proposers_do_not_fail_quietly():
    def broken(candidate, dataset, components):
        raise IndexError("a mistake of ours")

    with pytest.raises(IndexError, match="of ours"):
        TokenProposer(broken, LAYOUT, forgive=False)(SEED, [])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("toy_prompts", ""),
        ("toy_prompts:missing", "missing"),
        ("nowhere.at.all:f", "No module named 'nowhere'"),
        (":f", ""),
        ("", ""),
        ("toy_prompts:NOT_A_FUNCTION", ""),
    ],
)
def test_a_path_that_leads_to_no_function_is_refused(path, message):
    with pytest.raises(ValueError, match=f"adapter.propose={path}: ") as error:
        import_function(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_users_function_is_found_and_called():
    propose = TokenProposer(import_function("toy_prompts:towards_five"), LAYOUT, forgive=True)
    assert propose(words(5, 0, 1), []) == words(5, 5, 1)
    assert import_function("toy_prompts:towards_five") is towards_five


@pytest.mark.parametrize("kind", [Mutate, Informed])
def test_proposers_are_what_gepa_calls_a_proposal_function(kind):
    """gepa.optimize takes `Mutate` and `Informed` without a wrapper."""
    api = pytest.importorskip("gepa.api")
    torch.manual_seed(0)
    batch = problems(HIDDEN, rows=12)
    world = World(batch, lambda prompt, problem: (PLACES - len(changed(prompt, HIDDEN))) / PLACES)
    playground = Playground(None, Bench(world, batch, LAYOUT, budget=10_000))
    playground.propose_new_texts = None
    result = api.optimize(
        {"prompt": LAYOUT.text(SEED)}, list(range(12)), adapter=playground, custom_candidate_proposer=kind(LAYOUT),
        max_metric_calls=400, logger=Silence(),
    )  # fmt: skip
    assert len(result.candidates) > 1
    assert len(changed(LAYOUT.parse(result.best_candidate["prompt"]), HIDDEN)) < PLACES
