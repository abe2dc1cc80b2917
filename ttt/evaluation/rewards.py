"""What a policy earns on problems with a verifiable answer, and how far it is from the base. It only reads.

    reward     share of problems whose greedy answer is right
    success    the expected reward of a sampled answer: mean of prod_t p(y_t), exact where one answer alone is right
    kl         KL(policy || base) in bits per token, summed over the vocabulary, on answers sampled from the policy;
               both read the same prompt
    kl_words   the same, mean over all prompts of one word (in mode slow)

Shapes: B problems, P prompt, T time, A answer, V vocabulary.
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

# Problems on which a divergence is measured, and of these under each word; a fixed seed, so that equal policies are
# equally far.
CONTEXTS, WORDED, SEED = 64, 16, 1234


@torch.no_grad()
def solve_rewards(engine: Engine, objective: Reward, batch: Batch, state: FastState, *, mode: Mode) -> dict[str, float]:
    """The four quantities above, under the weights that the learner has now. One device only."""
    learner = engine.learner
    batch = batch.to(engine.fabric.device)
    with engine.fabric.autocast():
        logits_BTV, _ = learner.forward(batch, state, write=False)
        earned = score(logits_BTV, batch, objective.layout)
        few = batch.rows(0, CONTEXTS)
        # In mode fast the policy is the base.
        kl = 0.0 if mode == "fast" else divergence(learner, objective, *asked(learner, few, state, objective.layout))
        kl_words = (
            divergence(learner, objective, worded(batch.rows(0, WORDED), objective.layout))
            if mode == "slow"
            else math.nan
        )
    return earned | {"kl": kl, "kl_words": kl_words}


def score(logits_BTV: Tensor, batch: Batch, layout: Layout) -> dict[str, float]:
    """Reward and success from what the model says of the right answers: if every token of one is the likeliest, the
    greedy answer is that."""
    answer_BA = layout.answers(batch)
    logp_BAV = logits_BTV[:, -layout.answer_len :].float().log_softmax(-1)
    solved_B = (logp_BAV.argmax(-1) == answer_BA).all(1)
    success_B = logp_BAV.gather(2, answer_BA[..., None]).sum((1, 2)).exp()
    return {"reward": float(solved_B.float().mean()), "success": float(success_B.mean())}


def asked(learner: Learner, batch: Batch, state: FastState, layout: Layout) -> tuple[Tensor, Tensor | None]:
    """Prompt and question as the model reads them in this state, [B, P + Q], and what is added to embeddings."""
    adapter, tokens_BT = learner.adapter, batch.tokens_BT[:, : batch.tokens_BT.shape[1] + 1 - layout.answer_len]
    if not isinstance(adapter, Evolving):
        return tokens_BT, None
    return adapter.with_prompt(tokens_BT, state), adapter.prompt_vectors(tokens_BT, state)


def worded(batch: Batch, layout: Layout) -> Tensor:
    """The same questions behind each prompt that has one word, and else says nothing, [words * B, P + Q]."""
    question_BQ = layout.questions(batch)
    prompts = [[word, *layout.seed_prompt[1:]] for word in layout.words if word not in layout.seed_prompt]
    prompt_WP = torch.tensor(prompts, device=question_BQ.device).repeat_interleave(len(question_BQ), 0)
    return torch.cat([prompt_WP, question_BQ.repeat(len(prompts), 1)], 1)


@torch.no_grad()
def divergence(learner: Learner, objective: Reward, asked_BT: Tensor, added_BPD: Tensor | None = None) -> float:
    """KL(policy || base) in bits per token, on answers that the policy gives; `added_BPD` is added to the embeddings at
    the head of rows, for both."""
    length = objective.layout.answer_len
    with torch.random.fork_rng(devices=[asked_BT.device] if asked_BT.is_cuda else []):
        torch.manual_seed(SEED)
        answer_BA, _ = sample_answers(
            lambda x, cache: predict(learner.model, x, added_BPD, cache=cache),
            asked_BT,
            length=length,
            temperature=1.0,
            alike=added_BPD is None,
        )
    rows_BT = torch.cat([asked_BT, answer_BA[:, :-1]], 1)
    own, base = (predict(learner.model, rows_BT, added_BPD, weights=x) for x in (None, objective.base))
    own_BAV, base_BAV = (x[:, -length:].float().log_softmax(-1) for x in (own, base))
    return float(policy.kl(own_BAV, base_BAV).mean()) / math.log(2)
