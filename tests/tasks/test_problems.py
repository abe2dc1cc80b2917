"""Problems with a verifiable answer: rows, draws, verifiers, lessons, prompts as text."""

from __future__ import annotations

import itertools

import pytest
import torch
from hidden_rules import SIZED, prompts, rng, same, some_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import build_source, shared_source

from ttt.stream import IGNORE
from ttt.tasks.machinery.problems import NAMES, Problems


@pytest.mark.parametrize("typed", SIZED, ids=" ".join)
def test_rows_are_laid_out_as_the_layout_says(typed):
    source = shared_source(*typed)
    assert isinstance(source, Problems)
    layout = source.layout
    drawn = [source.problems(index, rows=9, rng=rng(1)) for index in some_classes(source)]
    for batch in (*drawn, source.lessons(rows=9, rng=rng(2)), source.skills(rows=9, rng=rng(3))):
        assert batch.tokens_BT.shape == (9, source.length)
        assert batch.targets_BT.shape == (9, source.length)
        window = torch.cat([batch.tokens_BT, batch.targets_BT[:, -1:]], 1)
        assert 0 <= window.min() <= window.max() < source.vocab_size
        scored = batch.targets_BT != IGNORE
        assert scored.sum(1).tolist() == [layout.answer_len] * 9
        # A slip in an answer is read too: the next token follows from it.
        assert torch.equal(window[:, 1:][scored], batch.targets_BT[scored])
        parts = [batch.tokens_BT[:, : layout.prompt_len], layout.questions(batch), layout.answers(batch)]
        assert torch.equal(torch.cat(parts, 1), window)
        assert set(parts[0].flatten().tolist()) <= set(layout.words)
        assert not set(torch.cat(parts[1:], 1).flatten().tolist()) & set(layout.words)
    for batch in drawn:
        # The prompt is the same in every row, so it can tell nothing about an answer.
        assert batch.tokens_BT[:, : layout.prompt_len].unique(dim=0).tolist() == [list(layout.seed_prompt)]


@pytest.mark.parametrize("typed", SIZED, ids=" ".join)
def test_draws_are_pure_functions_of_the_generator(typed):
    source = shared_source(*typed)
    again = build_source(*typed)
    assert source.fingerprint == again.fingerprint
    draws = [lambda s, r, c=index: s.problems(c, rows=6, rng=r) for index in some_classes(source)]
    for draw in (*draws, lambda s, r: s.lessons(rows=6, rng=r), lambda s, r: s.skills(rows=6, rng=r)):
        assert same(draw(source, rng(1)), draw(again, rng(1)))
        assert not same(draw(source, rng(1)), draw(source, rng(2)))


@pytest.mark.parametrize("typed", SIZED, ids=" ".join)
def test_a_verifier_takes_true_answers_and_no_changed_token(typed):
    source = shared_source(*typed)
    for index in some_classes(source):
        batch = source.problems(index, rows=7, rng=rng(index))
        right = source.layout.answers(batch)
        reward = source.layout.verify(batch, right)
        assert reward.dtype == torch.float32
        assert reward.tolist() == [1.0] * 7
        for place, token in itertools.product(range(right.shape[1]), range(source.vocab_size)):
            changed = right.clone()
            changed[:, place] = token
            expected = (right[:, place] == token).float()
            assert torch.equal(source.layout.verify(batch, changed), expected)


@pytest.mark.parametrize("typed", SIZED, ids=" ".join)
def test_no_prompt_is_always_right(typed):
    source = shared_source(*typed)
    for index in some_classes(source):
        batch = source.problems(index, rows=600, rng=rng(index))
        question = source.layout.questions(batch)
        for prompt in prompts(source):
            assert source.layout.verify(batch, source.layout.means(prompt, question)).mean() < 1


def test_classes_are_counted():
    counts = {name: [len(shared_source(f"source={name}").choose(ops)) for ops in (1, 2)] for name in NAMES}
    # Of the 64 programs of two instructions in rule-world, 32 do what no shorter one does.
    assert counts == {"rule-world": [360, 1440], "star-graph": [45, 45], "arithmetic": [360, 2025]}
    for name in NAMES:
        source = shared_source(f"source={name}")
        assert len({source.class_name(index) for index in range(source.num_classes)}) == source.num_classes
        assert source.families() == [[index] for index in range(source.num_classes)]
        assert all(len(source.classes[index][0]) == 2 for index in source.choose(2))
        with pytest.raises(ValueError, match=f"^task.ops=3: .*source={name}.* 1 or 2 "):
            source.choose(3)


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_without_noise_is_what_its_prompt_expresses(name):
    source = shared_source(f"source={name}", "source.noise=0", "source.shown=1")
    batch = source.lessons(rows=400, rng=rng())
    question, right = source.layout.questions(batch), source.layout.answers(batch)
    for row, prompt in enumerate(map(tuple, batch.tokens_BT[:, : source.layout.prompt_len].tolist())):
        assert torch.equal(source.layout.means(prompt, question[row : row + 1])[0], right[row])
    alone = (batch.tokens_BT[:, :2] == source.layout.seed_prompt[0]).sum(1)
    assert set(alone.tolist()) == {0, 1}
    assert alone.float().mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_noise_and_hidden_prompts_of_lessons(name):
    """The same draws with and without noise, with and without empty prompts."""
    source, clear = shared_source(f"source={name}"), shared_source(f"source={name}", "source.noise=0", "source.shown=1")
    batch, clean = (s.lessons(rows=4000, rng=rng(3)) for s in (source, clear))
    is_empty = (batch.tokens_BT[:, :2] == source.layout.seed_prompt[0]).all(1)
    assert torch.equal(batch.tokens_BT[~is_empty][:, :2], clean.tokens_BT[~is_empty][:, :2])
    assert is_empty.float().mean() == pytest.approx(0.35, abs=4 * (0.35 * 0.65 / 4000) ** 0.5)
    slips = (source.layout.answers(batch) != source.layout.answers(clean)).float()
    assert torch.equal(source.layout.questions(batch), source.layout.questions(clean))
    # A symbol may replace itself.
    assert 0.2 * (1 - 1 / len(source.symbols)) - 0.02 < slips.mean() < 0.22


@pytest.mark.parametrize("name", NAMES)
def test_skills_show_each_instruction_alone(name):
    source = shared_source(f"source={name}")
    batch = source.skills(rows=64, rng=rng())
    texts = [source.layout.text(prompt) for prompt in batch.tokens_BT[:, :2].tolist()]
    expected = {f"{w} null" for w in source.instructions} | {f"null {w}" for w in source.instructions}
    assert {text: texts.count(text) for text in texts} == dict.fromkeys(expected, 64 // len(expected))
    for row, text in enumerate(texts):
        means = source.layout.means(source.layout.parse(text), source.layout.questions(batch)[row : row + 1])
        assert torch.equal(means[0], source.layout.answers(batch)[row])


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_a_prompt_is_read_as_it_was_written(name, data):
    layout = shared_source(f"source={name}").layout
    prompt = tuple(data.draw(st.sampled_from(list(layout.words))) for _ in range(layout.prompt_len))
    assert layout.parse(layout.text(prompt)) == prompt


def test_text_that_is_no_prompt_is_refused():
    layout = shared_source("source=rule-world").layout
    for text, named in (("null", "2 words"), ("null revers", "'revers'.*null, reverse, rotate")):
        with pytest.raises(ValueError, match=named):
            layout.parse(text)
