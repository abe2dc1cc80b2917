"""What prompts express in rules over digits, and what they cannot express."""

from __future__ import annotations

import itertools

import pytest
import torch
from hidden_rules import prompts, rng
from sources import shared_source

from ttt.stream import IGNORE


@pytest.mark.parametrize(
    ("name", "prompt", "question", "expected"),
    [
        ("rule-world", "reverse null", "3 1 4 2", "2 4 1 3"),
        ("rule-world", "null rotate", "3 1 4 2", "1 4 2 3"),
        ("rule-world", "swap-pairs null", "3 1 4 2", "1 3 2 4"),
        ("rule-world", "sort null", "3 1 4 2", "1 2 3 4"),
        ("rule-world", "one-up null", "3 9 4 2", "4 0 5 3"),
        ("rule-world", "three-up null", "3 9 4 2", "6 2 7 5"),
        ("rule-world", "nine-minus null", "3 9 4 2", "6 0 5 7"),
        ("rule-world", "swap-halves null", "3 1 4 2", "4 2 3 1"),
        ("rule-world", "sort one-up", "9 1 4 2", "2 3 5 0"),
        ("rule-world", "one-up sort", "9 1 4 2", "0 2 3 5"),
        # Numbers have the ones first: 18 and 25.
        ("arithmetic", "plus null", "8 1 5 2", "3 4"),
        ("arithmetic", "minus null", "8 1 5 2", "3 9"),
        ("arithmetic", "times null", "8 1 5 2", "0 5"),
        ("arithmetic", "carryless null", "8 1 5 2", "3 3"),
        ("arithmetic", "exchange null", "8 1 5 2", "5 2"),
        ("arithmetic", "double null", "8 1 5 2", "6 3"),
        ("arithmetic", "next null", "9 9 5 2", "0 0"),
        ("arithmetic", "larger null", "8 1 5 2", "5 2"),
        ("arithmetic", "exchange minus", "8 1 5 2", "7 0"),
        ("arithmetic", "plus double", "8 1 5 2", "6 8"),
        ("arithmetic", "null null", "8 1 5 2", f"{IGNORE} {IGNORE}"),
    ],
)
def test_what_prompts_express_about_digits(name, prompt, question, expected):
    source = shared_source(f"source={name}")
    tokens = torch.tensor([[*map(int, question.split()), source.mark("=")]])
    assert source.layout.means(source.layout.parse(prompt), tokens).tolist() == [[*map(int, expected.split())]]


def test_an_odd_row_keeps_its_middle_or_last_digit():
    source = shared_source("source=rule-world", "source.items=5")
    tokens = torch.tensor([[0, 1, 2, 3, 4, source.mark("=")]])
    for word, expected in (("swap-halves", [3, 4, 2, 0, 1]), ("swap-pairs", [1, 0, 3, 2, 4])):
        assert source.layout.means(source.layout.parse(f"{word} null"), tokens).tolist() == [expected]


def test_no_prompt_expresses_a_task_of_rule_world():
    """Each class answers all 10,000 questions unlike any prompt and any other class."""
    source = shared_source("source=rule-world")
    question = torch.tensor([[*digits, source.mark("=")] for digits in itertools.product(range(10), repeat=4)])
    meanings = {prompt: source.layout.means(prompt, question) for prompt in prompts(source)[1:]}
    # An empty program leaves the digits as they are.
    meanings[source.layout.seed_prompt] = question[:, :4]
    answers = set()
    for program, part in source.classes:
        prompt = tuple(source.layout.words[1 + word] for word in program) + source.layout.seed_prompt[len(program) :]
        _, right = source.hide(part, question.numpy(), meanings[prompt].numpy())
        answers.add(right.tobytes())
    assert len(answers) == source.num_classes
    assert not answers & {meaning.numpy().tobytes() for meaning in meanings.values()}


def test_the_best_prompt_is_right_where_no_swapped_digit_is():
    """It is right in 0.8 ** 4 of the rows of a task with one instruction."""
    source = shared_source("source=rule-world")
    for index in source.choose(1)[::37]:
        batch = source.problems(index, rows=4000, rng=rng(index))
        question = source.layout.questions(batch)
        shares = {p: source.layout.verify(batch, source.layout.means(p, question)).mean() for p in prompts(source)}
        (word,), _ = source.classes[index]
        best = max(shares, key=shares.__getitem__)
        assert shares[best] == shares[source.layout.words[1 + word], source.layout.seed_prompt[0]]
        # Four standard errors.
        assert float(shares[best]) == pytest.approx(0.41, abs=0.032)
        assert shares[source.layout.seed_prompt] == 0


def test_digits_that_never_occur_are_not_swapped():
    """Modulo 7 there is no 8 and no 9, so their swap would change nothing."""
    source = shared_source("source=arithmetic", "source.digits=1", "source.modulus=7")
    assert {digit for _, part in source.classes for digit in source.pairs[part]} == set(range(10))
    assert not [part for _, part in source.classes if min(source.pairs[part]) > 6]
