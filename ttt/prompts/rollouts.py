"""Answers that a model gives to problems, sampled token by token.

Shapes: B problems, R rollouts, P prompt, Q question, A answer, T time, U distinct contexts,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ttt.models.cache import Cache
from ttt.prompts.vectors import head_tokens
from ttt.stream import Batch, Layout


@dataclass(frozen=True)
class Rollouts:
    """Rollout i answers row `problem_R[i]` of a batch under `prompt_RP[i]`.

    `prompt_RP`: token ids, or vectors ([R, P, D]).
    `logp_RA`: log-probability (nats) of each token when it was sampled. `reward_R`: the verifier's
    verdict, float32.
    """

    problem_R: Tensor
    prompt_RP: Tensor
    answer_RA: Tensor
    logp_RA: Tensor
    reward_R: Tensor

    def rows(self, batch: Batch, layout: Layout) -> Tensor:
        """Return [R, T] as a model reads them: prompt, question, answer without its last token.

        Vectors are added to embeddings, so under them the row holds the seed prompt.
        """
        # The last token of an answer is predicted but never read.
        question_RQ = layout.questions(batch)[self.problem_R]
        return torch.cat([head_tokens(self.prompt_RP, layout), question_RQ, self.answer_RA[:, :-1]], 1)

    def pick(self, index: list[int] | Tensor) -> Rollouts:
        """Return the rollouts at these indices, or where a mask is true."""
        return Rollouts(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def cat(parts: list[Rollouts]) -> Rollouts:
        return Rollouts(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Rollouts)))


@dataclass(frozen=True)
class Play:
    """The policy as a fast channel may use it; slow weights stay as they are.

    `answer`: (problem_R, prompt_RP) -> one sampled answer each. `loss`: the loss of a
    policy-gradient step on rollouts; soft prompts can move along its gradient. `group`: answers to
    each problem in a step.
    """

    answer: Callable[[Tensor, Tensor], Rollouts]
    loss: Callable[[Rollouts], Tensor]
    group: int

    def __call__(self, problem_R: Tensor, prompt_RP: Tensor) -> Rollouts:
        return self.answer(problem_R, prompt_RP)


def evenly(problem_Q: Tensor, *, group: int, prompts: int) -> tuple[Tensor, Tensor]:
    """Return the problem and the index of the prompt of each rollout, [Q * group] each.

    Each problem gets `group` rollouts, the j-th of them under prompt j * prompts // group.
    """
    number_R = torch.arange(len(problem_Q) * group, device=problem_Q.device)
    return problem_Q[number_R // group], number_R % group * prompts // group


# (tokens_BT, cache) -> logits [B, T, V]; continues where the cache stopped.
Predict = Callable[[Tensor, Cache], Tensor]


@torch.no_grad()
def sample_answers(
    predict: Predict, tokens_RT: Tensor, *, length: int, temperature: float, alike: bool = True
) -> tuple[Tensor, Tensor]:
    """Sample `length` tokens after each row.

    Return the tokens and their log-probabilities (nats), [R, A] each.

    `alike`: rows of equal tokens are equal contexts, and each distinct one is read once. Pass False
    where vectors are added that differ between rows. Temperature 0 takes the likeliest token and
    reports its log-probability at temperature 1.
    """
    # With keys and values in a cache, each new token is read by itself.
    cache, answer, logps = Cache(exact=False, more=length), [], []
    if alike:
        context_UT, context_R = _distinct(tokens_RT)
        logits_RV = predict(context_UT, cache)[context_R, -1]
        # From here on the rows of one context go apart, each with a lane of its own.
        cache = cache.pick(context_R)
    else:
        logits_RV = predict(tokens_RT, cache)[:, -1]
    while True:
        # In fp32: importance weights divide by these probabilities.
        logp_RV = (logits_RV.float() / (temperature or 1.0)).log_softmax(-1)
        token_R1 = torch.multinomial(logp_RV.softmax(-1), 1) if temperature else logp_RV.argmax(-1, keepdim=True)
        answer.append(token_R1)
        logps.append(logp_RV.gather(1, token_R1))
        if len(answer) == length:
            return torch.cat(answer, 1), torch.cat(logps, 1)
        logits_RV = predict(token_R1, cache)[:, -1]


def _distinct(tokens_RT: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct rows in order, and the index of each row among them."""
    # torch.unique compares rows one by one in calls of torch, which takes longer than a token.
    rows = [tuple(row) for row in tokens_RT.tolist()]
    number = {row: i for i, row in enumerate(sorted(set(rows)))}
    return tokens_RT.new_tensor(list(number)), tokens_RT.new_tensor([number[row] for row in rows])
