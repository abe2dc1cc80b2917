"""What a policy earns on problems with a verifiable answer, and how far it is from the base.

    reward     share of problems whose greedy answer is right
    success    expected reward of a sampled answer: mean of prod_t p(y_t), exact if only one answer
               is right
    kl         reverse: KL(policy || base) in bits per token, on answers sampled from the policy;
               both read the same prompt
    kl_words   the same, mean over all prompts of one word (in mode slow)
    kl_forward, kl_forward_words
               forward: KL(base || policy) in bits per token, on answers sampled from the base
               (objective.drift=both)

Forward and reverse are called as in RL's Razor (arXiv 2509.04259), which predicts forgetting from
the forward one; Fast-Slow Training plots the reverse one. Both are sums over the vocabulary at each
token of an answer, with only the tokens before it sampled: so they are exact for answers of one
token, and otherwise A times the mean is an unbiased estimate of the divergence of whole answers.
Evaluation only reads. Shapes: B problems, P prompt, Q question, D model width, A answer,
V vocabulary, W words.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ttt.adapters.base import FastState, Mode
from ttt.adapters.evolving import Evolving
from ttt.kernels import policy
from ttt.learner import Engine, Learner
from ttt.objectives.reward import Reward
from ttt.prompts.rollouts import sample_answers
from ttt.prompts.vectors import predict
from ttt.stream import Batch, Layout

# Problems on which `kl` is measured, and problems for each word of `kl_words`: sampling costs far
# more than the exact rewards, which use all problems.
KL_PROBLEMS, KL_PROBLEMS_PER_WORD = 64, 16
# A fixed seed for sampling, so that equal policies are measured equally far from the base.
KL_SEED = 1234
# objective.drift -> quantity -> is it the forward direction?
DIRECTIONS = {"reverse": {"kl": False}, "both": {"kl": False, "kl_forward": True}}


@torch.no_grad()
def solve_rewards(engine: Engine, objective: Reward, batch: Batch, state: FastState, *, mode: Mode) -> dict[str, float]:
    """Return all quantities, under the learner's current weights. Works on one device only."""
    learner, layout = engine.learner, objective.layout
    batch = batch.to(engine.fabric.device)
    rows, rows_of_word = batch.rows(0, KL_PROBLEMS), batch.rows(0, KL_PROBLEMS_PER_WORD)
    # In mode fast the policy is the base, and one-word prompts do not depend on the prompt in use.
    kl, kl_words = 0.0, math.nan
    distances: dict[str, float] = {}
    with engine.fabric.autocast():
        logits_BTV, _ = learner.forward(batch, state, write=False)
        rewards = exact_rewards(logits_BTV, batch, layout)
        for name, forward in DIRECTIONS[objective.drift].items():
            if mode != "fast":
                kl = kl_from_base(learner, objective, *contexts(learner, rows, state, layout), forward=forward)
            if mode == "slow":
                kl_words = kl_from_base(learner, objective, one_word_contexts(rows_of_word, layout), forward=forward)
            distances |= {name: kl, f"{name}_words": kl_words}
    return rewards | distances


def exact_rewards(logits_BTV: Tensor, batch: Batch, layout: Layout) -> dict[str, float]:
    """Return `reward` and `success`, read off the logits of the right answers without sampling.

    The greedy answer is right if each token of the right answer is the likeliest after those before
    it, which the row holds.
    """
    # Exact probabilities instead of samples: rows of R differ by learning, not by chance.
    answer_BA = layout.answers(batch)
    logp_BAV = logits_BTV[:, -layout.answer_len :].float().log_softmax(-1)
    solved_B = (logp_BAV.argmax(-1) == answer_BA).all(1)
    success_B = logp_BAV.gather(2, answer_BA[..., None]).sum((1, 2)).exp()
    return {"reward": float(solved_B.float().mean()), "success": float(success_B.mean())}


def contexts(learner: Learner, batch: Batch, state: FastState, layout: Layout) -> tuple[Tensor, Tensor | None]:
    """Return prompt and question as the model reads them in this state, [B, P + Q].

    The second value is what is added to the embeddings of the prompt, [B, P, D], or None.
    """
    # A row ends before the last token of its answer, which is a target only.
    adapter, tokens_BT = learner.adapter, batch.tokens_BT[:, : batch.tokens_BT.shape[1] + 1 - layout.answer_len]
    if not isinstance(adapter, Evolving):
        return tokens_BT, None
    return adapter.with_prompt(tokens_BT, state), adapter.prompt_vectors(tokens_BT, state)


def one_word_contexts(batch: Batch, layout: Layout) -> Tensor:
    """Return the questions behind every prompt of one word, [W * B, P + Q].

    The rest of such a prompt is that of the seed prompt, which says nothing.
    """
    question_BQ = layout.questions(batch)
    prompts = [[word, *layout.seed_prompt[1:]] for word in layout.words if word not in layout.seed_prompt]
    prompt_WP = torch.tensor(prompts, device=question_BQ.device).repeat_interleave(len(question_BQ), 0)
    return torch.cat([prompt_WP, question_BQ.repeat(len(prompts), 1)], 1)


@torch.no_grad()
def kl_from_base(
    learner: Learner,
    objective: Reward,
    context_BT: Tensor,
    added_BPD: Tensor | None = None,
    *,
    forward: bool = False,
) -> float:
    """Return KL(policy || base) in bits per token, on answers sampled from the policy.

    `forward`: KL(base || policy), on answers sampled from the base. `added_BPD` is added to the
    embeddings at the head of the rows, for the policy and the base.
    """
    length = objective.layout.answer_len
    # Answers are drawn from the first; None: the current weights.
    first, second = (objective.base, None) if forward else (None, objective.base)
    # The run's own random numbers must not depend on how often it is evaluated.
    with torch.random.fork_rng(devices=[context_BT.device] if context_BT.is_cuda else []):
        torch.manual_seed(KL_SEED)
        answer_BA, _ = sample_answers(
            lambda tokens, cache: predict(learner.model, tokens, added_BPD, cache=cache, weights=first),
            context_BT,
            length=length,
            temperature=1.0,
            alike=added_BPD is None,
        )
    # Policy and base are compared on the same tokens, over the whole vocabulary at each of them.
    rows_BT = torch.cat([context_BT, answer_BA[:, :-1]], 1)
    first_BAV, second_BAV = (
        predict(learner.model, rows_BT, added_BPD, weights=weights)[:, -length:].float().log_softmax(-1)
        for weights in (first, second)
    )
    return float(policy.kl(first_BAV, second_BAV).mean()) / math.log(2)
