"""`exact`: answers that a learner writes by itself, against a loop that reads all anew."""

from __future__ import annotations

import json

import pytest
import torch
from assembling import assembled, refusal_of
from harness import FAST, SMALL, only_run, run_here
from learning import engine_of
from torch import nn

from ttt.evaluation.exact import tally_exact
from ttt.learner import Reader
from ttt.learner.answers import exact_rows, first_scored, read_columns
from ttt.stream import IGNORE, Batch

FRESH = (*SMALL, "base=none")
# Rows of eight tokens with a query each half.
MQAR = ("source=mqar", "source.vocab=32", "source.pairs=[2,3,4]", "task.num_tasks=2", "task.held_out=2")


def batch_of(tokens, scored):
    """Rows in which the targets at `scored` positions are the next tokens."""
    tokens_BT = torch.tensor(tokens)
    targets_BT = torch.full_like(tokens_BT, IGNORE)
    next_BT = tokens_BT.roll(-1, dims=1)
    for row, places in enumerate(scored):
        targets_BT[row, places] = next_BT[row, places]
    return Batch(tokens_BT, targets_BT, torch.zeros_like(tokens_BT))


def naive(learner, batch, *, write):
    """For each row: is all that is scored written? Everything is read anew for each token."""
    right = []
    for row in range(len(batch.tokens_BT)):
        text, targets = batch.tokens_BT[row].tolist(), batch.targets_BT[row].tolist()
        hits = []
        for t, target in enumerate(targets):
            if target == IGNORE:
                continue
            tokens_BT = torch.tensor([text[: t + 1]])
            alone = Batch(tokens_BT, tokens_BT, torch.zeros_like(tokens_BT))
            with torch.no_grad():
                logits_BTV, _ = learner(alone, learner.adapter.initial(), write=write)
            written = int(logits_BTV[0, -1].argmax())
            hits.append(written == target)
            if t + 1 < len(text) and text[t + 1] == target:
                text[t + 1] = written
        right.append(all(hits))
    return right


class Parrot(nn.Module):
    """A learner that adds `step` to the last token, and one more behind an odd one.

    With `peeks`, it says what stands next in the text that it is handed, where there is a next.
    """

    def __init__(self, *, peeks=False):
        super().__init__()
        self.peeks, self.adapter = peeks, self

    def initial(self):
        return {}

    def forward(self, batch, state, *, write=True, cache=None, scored=False):
        tokens_BT = batch.tokens_BT
        said_BT = (tokens_BT + 1 + tokens_BT % 2) % 16
        if self.peeks:
            said_BT = torch.cat([tokens_BT[:, 1:], said_BT[:, -1:]], 1)
        return nn.functional.one_hot(said_BT, 16).float(), state


def teacher_forced(learner, batch):
    scored_BT = batch.targets_BT != IGNORE
    logits_BTV, _ = learner(batch, {})
    return ((logits_BTV.argmax(-1) == batch.targets_BT) | ~scored_BT).all(1).tolist()


def test_a_model_that_looks_ahead_is_right_only_where_the_answer_is_handed_to_it():
    # The rule from 2 on gives 3, 5, 7; the answers of the second row follow no rule.
    batch = batch_of([[9, 2, 3, 5, 7], [9, 2, 8, 1, 1]], [[1, 2, 3], [1, 2, 3]])
    peeking = Parrot(peeks=True)
    assert teacher_forced(peeking, batch) == [True, True]
    assert exact_rows(Reader(peeking), batch).tolist() == [True, False] == naive(peeking, batch, write=False)


def test_what_is_not_scored_is_read_as_it_stands():
    # The second answer (4, from 3) stands behind a text that the first one does not change.
    batch = batch_of([[2, 3, 9, 3, 5], [2, 4, 9, 3, 5], [2, 3, 9, 3, 4]], [[0, 3], [0, 3], [0, 3]])
    assert exact_rows(Reader(Parrot()), batch).tolist() == [True, False, False]


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("case", [FAST, ("adapter=none",), ("adapter=delta_fast",)], ids=lambda x: x[0])
def test_it_equals_reading_all_anew(case, write):
    learner = assembled(*FRESH, *case).learner.eval()
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(32, (24, 16), generator=generator)
    # Behind the first tokens: a convolution of delta_fast takes rows of four at least.
    scored = [sorted((4 + torch.randperm(11, generator=generator)[:3]).tolist()) for _ in tokens_BT]
    batch = batch_of(tokens_BT.tolist(), scored)
    # Some rows right by construction: their answers are what the learner writes.
    for row in range(12):
        for t in scored[row]:
            alone = batch.rows(row, row + 1)._replace(tokens_BT=batch.tokens_BT[row : row + 1, : t + 1])
            logits_BTV = Reader(learner, write=write).read(alone.tokens_BT)
            batch.tokens_BT[row, t + 1] = batch.targets_BT[row, t] = logits_BTV[0, -1].argmax()
    right = naive(learner, batch, write=write)
    assert sum(right) == 12
    assert exact_rows(Reader(learner, write=write), batch).tolist() == right
    # The same from a reader that has read what comes before the answers.
    reader, start = Reader(learner, write=write), first_scored(batch)
    read_columns(reader, batch, 0, start)
    assert exact_rows(reader, batch, start=start).tolist() == right


def test_texts_and_padding_are_not_counted():
    engine = engine_of(assembled(*FRESH, *FAST))
    text = batch_of([[1, 2, 3, 4]], [[0, 1, 2]])
    text.targets_BT[0, 3] = 5
    assert tally_exact(engine, text, {}, write=False).tolist() == [0, 0]
    state = engine.learner.adapter.initial()
    asked = batch_of([[1, 2, 3, 4], [1, 2, 3, 4]], [[2], []])
    assert tally_exact(engine, asked, state, write=True)[1] == 1


def test_a_run_measures_it_in_every_mode(tmp_path):
    typed = (*SMALL, *MQAR, "base=none", *FAST, "eval.exact=true")
    done = run_here(typed, tmp_path)
    assert done.code == 0, done.err
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    for scores in results["rows"][-1]["scores"].values():
        assert all(0 <= share <= 1 for share in scores["exact"])
    assert "fast/exact/avg_final" in results["metrics"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("eval.exact=1",), "eval.exact=1: must be true or false"),
        (("eval.exact=true", "source=languages"), "every token"),
    ],
)
def test_refusals(words, part):
    assert part in refusal_of(*FRESH, "adapter=none", *words)


def test_vectors_are_refused():
    words = ("source=digits", "source.read_as=vectors", "model=mlp", "adapter=none", "base=none", "task.num_tasks=2")
    assert "vectors" in refusal_of(*words, "eval.exact=true")
