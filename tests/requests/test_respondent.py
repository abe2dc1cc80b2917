"""Answers to single requests against the same reading token by token, and against each alone.

Shapes: B batch (lanes), T time, V vocabulary.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from reading_on import learner_of

from ttt.learner import Sampling
from ttt.learner.reader import Reader
from ttt.requests.respondent import Continuation, Respondent, sampling_of

WANTED = [
    Continuation((5, 9, 9, 2, 7, 7, 3, 1, 4), (8, 6)),
    Continuation((3,), (1, 2, 3, 4, 5, 6, 7)),
    Continuation((5, 9, 9, 2, 7, 7, 3, 1, 4), (8, 200)),
    # Read as the first one, scored from an earlier position on.
    Continuation((5, 9, 9, 2, 7, 7, 3, 1), (4, 8, 11)),
]
PROMPTS = [(5, 9, 9, 2, 7, 7, 3), (3,), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)]
ADAPTERS = ["none", "mlp_fast", "delta_fast", "ttt_linear"]


def learner(adapter):
    torch.manual_seed(3)
    model = learner_of(adapter)
    # Random weights of 0.02 make all tokens about as likely.
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
    return model


def token_by_token(model, continuation, *, write):
    reader, nats, greedy = Reader(model, write=write), 0.0, True
    tokens = continuation.context + continuation.tokens
    for i, (token, following) in enumerate(pairwise(tokens)):
        p_V = reader.read(torch.tensor([[token]]))[0, 0].log_softmax(-1)
        if i + 1 >= len(continuation.context):
            nats, greedy = nats + float(p_V[following]), greedy and int(p_V.argmax()) == following
    return nats, greedy


def scores(model, *, write, rows=1, wanted=WANTED):
    return Respondent(model, write, rows=rows).score(wanted, progress=lambda count: None)


def written(model, prompts, *, write=True, tokens=9, ends=lambda row: False, sampling=None):
    return Respondent(model, write, rows=len(prompts)).answer(
        prompts, tokens=tokens, ends=ends, sampling=sampling or Sampling(), generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_score_is_that_of_reading_token_by_token(adapter, write):
    model = learner(adapter)
    expected = [token_by_token(model, continuation, write=write) for continuation in WANTED]
    for rows in (1, 3):
        for score, (nats, greedy) in zip(scores(model, write=write, rows=rows), expected, strict=True):
            assert score.nats == pytest.approx(nats, abs=2e-4)
            assert score.is_greedy == greedy


def test_a_greedy_continuation_is_known_as_such():
    model = learner("mlp_fast")
    answer = written(model, PROMPTS[:1])[0]
    wanted = [Continuation(PROMPTS[0], tuple(answer)), Continuation(PROMPTS[0], (*answer[:-1], answer[-1] ^ 1))]
    assert [score.is_greedy for score in scores(model, write=True, wanted=wanted)] == [True, False]


def test_no_request_learns_from_another_and_writes_count():
    model = learner("mlp_fast")
    fast = scores(model, write=True)
    assert scores(model, write=True, wanted=WANTED[::-1]) == fast[::-1]
    assert scores(model, write=False)[0].nats != pytest.approx(fast[0].nats, abs=1e-4)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_answers_side_by_side_are_as_each_alone(adapter):
    model = learner(adapter)
    alone = [Reader(model).generate(torch.tensor([prompt]), tokens=9)[0].tolist() for prompt in PROMPTS]
    assert written(model, PROMPTS) == alone


def test_an_answer_ends_where_it_should():
    model = learner("mlp_fast")
    whole = written(model, PROMPTS)
    cut = written(model, PROMPTS, ends=lambda row: len(row) == 1 + row[0] % 3)
    assert cut == [row[: 1 + row[0] % 3] for row in whole]


@pytest.mark.parametrize(
    ("settings", "sampling"),
    [
        ({}, Sampling()),
        ({"do_sample": False, "temperature": 0.7}, Sampling()),
        ({"temperature": 0.7}, Sampling(temperature=0.7)),
        ({"do_sample": True, "top_k": 5}, Sampling(temperature=1.0, top_k=5)),
        ({"do_sample": True, "temperature": 0.0}, Sampling()),
    ],
)
def test_how_a_task_draws(settings, sampling):
    assert sampling_of(settings) == sampling
