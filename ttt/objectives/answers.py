"""Answers to problems under prompts: sampled, read again for their log-probabilities, and reused.

Shapes: R rollouts, P prompt (vectors: P x D), T time, A answer, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from ttt.prompts.rollouts import Rollouts, sample_answers
from ttt.prompts.vectors import added_vectors, head_tokens, predict
from ttt.stream import Batch, Layout


def play(
    model: nn.Module, batch: Batch, problem_R: Tensor, prompt_RP: Tensor, *, layout: Layout, temperature: float
) -> Rollouts:
    """Sample an answer to each problem (an index into `batch`) under the prompt beside it."""
    context_RT = torch.cat([head_tokens(prompt_RP, layout), layout.questions(batch)[problem_R]], 1)
    added_RPD = added_vectors(prompt_RP)
    # Sampling needs no graph; `answer_logp` reads the answers again where a loss needs one.
    answer_RA, logp_RA = sample_answers(
        lambda tokens, cache: predict(model, tokens, added_RPD, cache=cache),
        context_RT,
        length=layout.answer_len,
        temperature=temperature,
        # Under vectors, rows of equal tokens are different contexts.
        alike=added_RPD is None,
    )
    # Batches are indexed by numpy arrays, which lie on the CPU.
    reward_R = layout.verify(batch.pick(problem_R.cpu().numpy()), answer_RA)
    return Rollouts(problem_R, prompt_RP, answer_RA, logp_RA, reward_R.float())


def answer_logp(
    model: nn.Module,
    batch: Batch,
    rollouts: Rollouts,
    *,
    layout: Layout,
    temperature: float,
    weights: dict[str, Tensor] | None = None,
) -> Tensor:
    """Return log p over the vocabulary at every place of each answer, [R, A, V].

    `weights`: parameters to compute with; None for the model's. The temperature must be the one at
    sampling, so that importance weights compare one policy with itself.
    """
    row_RT, added_RPD = rollouts.rows(batch, layout), added_vectors(rollouts.prompt_RP)
    # Softmax in fp32: importance weights divide by these probabilities.
    logits = predict(model, row_RT, added_RPD, weights=weights)
    return (logits[:, -layout.answer_len :].float() / temperature).log_softmax(-1)


def match_rollouts(problem_R: Tensor, prompt_RP: Tensor, stock: Rollouts) -> tuple[list[int], list[int]]:
    """Match wanted rollouts with those of `stock` by problem and prompt, each used at most once.

    Return the indices in `stock` of those that serve, and the wanted indices that none serves.
    """
    available: dict[tuple[int, ...], list[int]] = defaultdict(list)
    # Only prompts of words are looked up: vectors move, and their adapter is not `reusable`.
    for i, key in enumerate(torch.cat([stock.problem_R[:, None], stock.prompt_RP], 1).tolist()):
        available[tuple(key)].append(i)
    reused, missing = [], []
    for i, key in enumerate(torch.cat([problem_R[:, None], prompt_RP], 1).tolist()):
        if available[tuple(key)]:
            reused.append(available[tuple(key)].pop())
        else:
            missing.append(i)
    return reused, missing
