"""Sampling with a cache is sampling without one, under words and under vectors."""

from __future__ import annotations

import pytest
import torch
from policies import ALONE
from small_policy import small_policy, soft_policy

from ttt.prompts.rollouts import sample_answers
from ttt.prompts.vectors import predict


def context_of(policy) -> torch.Tensor:
    batch, layout = policy.tasks[0].batch(0), policy.layout
    return torch.cat([batch.tokens_BT[:, : layout.prompt_len], layout.questions(batch)], 1)


@torch.no_grad()
def sampled_without_cache(predict_row, row, *, length, temperature):
    """Read the whole row again for every token."""
    start, logps = row.shape[1], []
    for _ in range(length):
        logp = (predict_row(row)[:, -1] / temperature).log_softmax(-1)
        token = torch.multinomial(logp.exp(), 1)
        row, logps = torch.cat([row, token], 1), [*logps, logp.gather(1, token)]
    return row[:, start:], torch.cat(logps, 1)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_words(temperature):
    policy = small_policy(*ALONE)
    context = context_of(policy)
    torch.manual_seed(3)
    answer, logp = sample_answers(
        lambda x, cache: policy.model(x, cache=cache), context, length=4, temperature=temperature
    )
    # Both ways draw the same random numbers in the same order.
    torch.manual_seed(3)
    expected, expected_logp = sampled_without_cache(policy.model, context, length=4, temperature=temperature)
    assert torch.equal(answer, expected)
    torch.testing.assert_close(logp, expected_logp, atol=1e-5, rtol=0)


def test_vectors_of_each_row():
    policy, added = soft_policy(), soft_policy().random_prompts()
    # Two rows ask the same question under different vectors.
    context = context_of(policy)[[0, 0, 1, 2]]
    torch.manual_seed(3)
    answer, logp = sample_answers(
        lambda x, cache: predict(policy.model, x, added, cache=cache), context, length=4, temperature=1.0, alike=False
    )
    torch.manual_seed(3)
    expected, expected_logp = sampled_without_cache(
        lambda row: predict(policy.model, row, added), context, length=4, temperature=1.0
    )
    assert torch.equal(answer, expected)
    torch.testing.assert_close(logp, expected_logp, atol=1e-4, rtol=0)
    assert not torch.allclose(logp[0], logp[1])


def test_training_computes_the_sampled_log_probabilities_again():
    # An entropy bonus lets training read every answer.
    assert soft_policy("objective.entropy=0.01").steps(2)[-1].watched["logp_gap"] < 1e-4
