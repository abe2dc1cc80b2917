"""A pool is read as the plain model behind its best prompt, bit for bit."""

from __future__ import annotations

import pytest
import torch
from toy_pools import BATCH, HIDDEN, LENGTH, OTHER, behind, plain_logits, pool_learner
from toy_prompts import PLACES, SEED, VOCAB, words

from ttt.learner import Reader
from ttt.stream import IGNORE


@pytest.fixture(scope="module")
def learner():
    return pool_learner()


@pytest.fixture(scope="module")
def exact():
    """The learner in fp64, for equalities up to rounding."""
    return pool_learner().double()


@pytest.fixture(scope="module")
def state(learner):
    return learner.adapter.holding(torch.tensor(HIDDEN))


@pytest.mark.parametrize("write", [True, False])
def test_nothing_written_is_the_plain_model_bit_for_bit(learner, write):
    logits, after = learner(BATCH, learner.adapter.initial(), write=write)
    assert torch.equal(logits, plain_logits(learner, BATCH))
    assert not any(x.any() for x in after.values())


@pytest.mark.parametrize("write", [True, False])
def test_the_best_prompt_replaces_the_seed_prompt(learner, state, write):
    before = BATCH.tokens_BT.clone()
    logits, after = learner(BATCH, state, write=write)
    assert torch.equal(logits, plain_logits(learner, behind(HIDDEN)))
    assert not torch.equal(logits, plain_logits(learner, BATCH))
    # Neither the batch nor the state was touched.
    assert torch.equal(BATCH.tokens_BT, before)
    assert all(torch.equal(after[name], x) for name, x in state.items())


def test_rows_with_another_prompt_keep_it(learner, state):
    mixed = BATCH.tokens_BT.clone()
    mixed[0, :PLACES], mixed[1, 1] = torch.tensor(OTHER), words(5)[0]
    batch = BATCH._replace(tokens_BT=mixed)
    prompted = learner.adapter.with_prompt(mixed, state)
    assert torch.equal(prompted[:2], mixed[:2])
    assert torch.equal(prompted[2:], behind(HIDDEN).tokens_BT[2:])
    logits, _ = learner(batch, state)
    assert torch.equal(logits, plain_logits(learner, batch._replace(tokens_BT=prompted)))


def test_rows_that_belong_to_no_lane_are_read_from_nothing_written():
    learner = pool_learner(reset="task")
    state = learner.lanes(learner.adapter.holding(torch.tensor(HIDDEN)), 10, of=16)
    prompted = learner.adapter.with_prompt(BATCH.tokens_BT, state)
    assert torch.equal(prompted[:10], behind(HIDDEN).tokens_BT[:10])
    assert torch.equal(prompted[10:], BATCH.tokens_BT[10:])
    assert all(len(x) == 1 for x in learner.adapter.carry(state).values())


@pytest.mark.parametrize("changed", [PLACES, PLACES + 2, LENGTH - 1])
def test_a_changed_token_leaves_all_earlier_logits_bit_equal(learner, state, changed):
    other = BATCH.tokens_BT.clone()
    other[:, changed] = (other[:, changed] + 1) % VOCAB
    before, after = (learner(batch, state)[0] for batch in (BATCH, BATCH._replace(tokens_BT=other)))
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.equal(before[:, changed:], after[:, changed:])


def test_targets_do_not_change_logits(learner, state):
    blind = BATCH._replace(targets_BT=torch.full_like(BATCH.targets_BT, IGNORE))
    assert torch.equal(learner(BATCH, state)[0], learner(blind, state)[0])


def test_rows_of_a_batch_do_not_affect_each_other(exact, state):
    together, _ = exact(BATCH, state)
    for row in (0, 7):
        alone, _ = exact(BATCH.rows(row, row + 1), state)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pieces", [[9], [3, 1, 1, 1, 1, 1, 1], [5, 4]])
def test_reading_in_pieces_is_reading_at_once(exact, state, pieces):
    whole, _ = exact(BATCH, state)
    reader, read, at = Reader(exact, state=state), [], 0
    for length in pieces:
        read.append(reader.read(BATCH.tokens_BT[:, at : at + length]))
        # A new reader goes on from what the old one exported.
        exported, reader, at = reader.export(), Reader(exact), at + length
        reader.restore(exported)
    assert at == LENGTH
    torch.testing.assert_close(torch.cat(read, 1), whole.detach(), rtol=1e-5, atol=1e-6)


def test_only_the_first_piece_holds_a_prompt(learner, state):
    """The seed prompt in the middle of a row is a word like others."""
    reader, unprompted = Reader(learner, state=state), Reader(learner)
    reader.read(BATCH.tokens_BT)
    unprompted.read(behind(HIDDEN).tokens_BT)
    again = torch.tensor([SEED] * 16)
    assert torch.equal(reader.read(again), unprompted.read(again))


def test_a_piece_with_half_a_prompt_is_refused(learner, state):
    few = BATCH.tokens_BT[:, : PLACES - 1]
    assert torch.equal(learner.adapter.with_prompt(few, learner.adapter.initial()), few)
    with pytest.raises(AssertionError, match="whole prompt"):
        learner.adapter.with_prompt(few, state)
