"""A pool of prompts in the toy world: read by a tiny learner, and searched without a model.

Shapes: B rows, P words of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from toy_prompts import PLACES, VOCAB, World, make, problems, words

from ttt.adapters.evolving import Round
from ttt.adapters.prompt_pool import PromptPool
from ttt.learner import Learner
from ttt.models.nano import Nano
from ttt.optimizers.adamw import AdamW
from ttt.stream import Batch, Prompt

HIDDEN, OTHER = words(1, 2, 3), words(4, 4, 5)
BATCH = problems(HIDDEN, rows=16)
LENGTH = BATCH.tokens_BT.shape[1]


def pool_learner(**options: object) -> Learner:
    """Return a learner with a pool as adapter, whose answers depend on what it reads."""
    torch.manual_seed(0)
    model = Nano(
        name="nano", vocab_size=VOCAB, seq_len=LENGTH, layers=2, width=16, heads=2, mlp_width=24, window=5,
        rope_base=10000.0,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    optimizer = AdamW(name="adamw", lr=1e-3, beta1=0.9, beta2=0.95, weight_decay=0.0, clip=1.0)
    return Learner(model, adapter=make(**options), optimizer=optimizer)


def behind(prompt: Prompt, batch: Batch = BATCH) -> Batch:
    """Return the rows with `prompt` at their head."""
    tokens_BT = batch.tokens_BT.clone()
    tokens_BT[:, :PLACES] = torch.tensor(prompt)
    return batch._replace(tokens_BT=tokens_BT)


def plain_logits(learner: Learner, batch: Batch) -> Tensor:
    """Return what the model says of these rows without any adapter."""
    logits_BTV: Tensor = learner.model(batch.tokens_BT, segment_BT=batch.segment_BT)
    return logits_BTV


def run_rounds(
    pool: PromptPool, world: World, count: int, *, budget: int = 200, state: dict[str, Tensor] | None = None
) -> Sequence[Round]:
    """Run several rounds of search on BATCH, each from the state that the one before left."""
    rounds: list[Round] = []
    state = pool.initial() if state is None else state
    for _ in range(count):
        rounds.append(pool.evolve(state, world, BATCH, budget=budget))
        state = pool.carry(rounds[-1].state)
    return rounds


def best_prompt(pool: PromptPool, state: dict[str, Tensor]) -> Prompt:
    return tuple(pool.emitted(state)[0].tolist())
