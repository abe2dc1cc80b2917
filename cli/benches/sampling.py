"""Sampling answers for rewards: the harness beside a bare batched decoder.

Shapes: R rollouts, U distinct contexts, T time, A answer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.plain import PlainDecoder
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.models.cache import Cache
from ttt.models.nano import Nano
from ttt.prompts.rollouts import sample_answers
from ttt.prompts.vectors import predict

# Contexts, and answers to each: a slow step of experiment=fst, a minibatch of its search, and one
# problem alone.
BATCHES = ((16, 8), (20, 1), (1, 8))
CONTEXT, ANSWERS, REPEATED = 6, (4, 32), 5


def measure_sampling(*, rounds: int) -> Iterator[Row]:
    """Yield a row for each batch and length: CPU time in the model of experiment=fst."""
    threads = f"trainer.threads={torch.get_num_threads()}"
    model = assembly_of("experiment=fst", "base=none", threads).learner.model.eval()
    assert isinstance(model, Nano)
    for contexts, group in BATCHES:
        tokens_UT = torch.arange(contexts * CONTEXT).reshape(contexts, CONTEXT) % model.embed_tokens.num_embeddings
        tokens_RT = tokens_UT.repeat_interleave(group, 0)
        for length in ANSWERS:
            bare = BareSampler(model, contexts=contexts, group=group, slots=CONTEXT + length)
            ours = partial(sample_answers, partial(predict_plainly, model), tokens_RT, length=length, temperature=1.0)
            seconds = paired(
                {"bare": _often(partial(bare, tokens_UT, length=length)), "ours": _often(ours)}, rounds=rounds
            )
            over = ratio(seconds["ours"], seconds["bare"])
            yield {
                "contexts": str(contexts),
                "answers": str(group),
                "tokens": str(length),
                "ms": median(seconds["ours"]) / REPEATED * 1e3,
                "bare": median(seconds["bare"]) / REPEATED * 1e3,
                "over bare": over.median,
                "least": over.low,
                "most": over.high,
            }


class BareSampler:
    """Reads each context once, and samples in `group` lanes that go on from it."""

    def __init__(self, model: Nano, *, contexts: int, group: int, slots: int) -> None:
        self._once = PlainDecoder(model, lanes=contexts, slots=slots)
        self._lanes = PlainDecoder(model, lanes=contexts * group, slots=slots)
        self._context_R = torch.arange(contexts).repeat_interleave(group)

    @torch.no_grad()
    def __call__(self, tokens_UT: Tensor, *, length: int) -> tuple[Tensor, Tensor]:
        """Return sampled tokens and their log-probabilities, [R, A] each."""
        self._once.restart()
        logits_RV = self._once.read(tokens_UT)[self._context_R]
        self._lanes.continue_from(self._once, self._context_R)
        tokens: list[Tensor] = []
        logps: list[Tensor] = []
        for i in range(length):
            if i:
                logits_RV = self._lanes.read(tokens[-1])
            logp_RV = logits_RV.log_softmax(-1)
            tokens.append(torch.multinomial(logp_RV.exp(), 1))
            logps.append(logp_RV.gather(1, tokens[-1]))
        return torch.cat(tokens, 1), torch.cat(logps, 1)


def predict_plainly(model: nn.Module, tokens_RT: Tensor, cache: Cache) -> Tensor:
    """Logits [R, T, V] under prompts of words."""
    return predict(model, tokens_RT, None, cache=cache)


def _often(call: Callable[[], object]) -> Callable[[], None]:
    """Several calls in one: a single one takes a few milliseconds."""

    def calls() -> None:
        for _ in range(REPEATED):
            call()

    return calls
