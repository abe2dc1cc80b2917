"""A world of prompts without a model: a function says how likely an answer is right under a prompt.

    prompt  w1 w2 w3     question  4 0 7 11     right answer  what the hidden prompt asks for
A word adds its number to the digit at its place: w1 w0 w2 turns 4 0 7 into 5 . 9. w0, the null
word, says nothing about its digit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ttt.adapters.prompt_pool import PromptPool
from ttt.config.build import build
from ttt.prompts.rollouts import Rollouts
from ttt.stream import IGNORE, Batch, Layout, Prompt

PLACES, DIGITS, FIRST, WORDS = 3, 10, 20, 6
SEED: Prompt = (FIRST,) * PLACES
END = 11
VOCAB = FIRST + WORDS


def words(*numbers: int) -> Prompt:
    return tuple(FIRST + n for n in numbers)


def means(prompt: Prompt, question_BQ: Tensor) -> Tensor:
    moved_BA = (question_BQ[:, :PLACES] + torch.tensor(prompt) - FIRST) % DIGITS
    return torch.where(torch.tensor(prompt) == FIRST, IGNORE, moved_BA)


def verify(batch: Batch, answer_BA: Tensor) -> Tensor:
    return (answer_BA == batch.targets_BT[:, -PLACES:]).all(1).float()


LAYOUT = Layout(
    seed_prompt=SEED,
    answer_len=PLACES,
    words=range(FIRST, FIRST + WORDS),
    names=["null", *(f"w{n}" for n in range(1, WORDS))],
    verify=verify,
    means=means,
)


def problems(hidden: Prompt, *, rows: int, seed: int = 0) -> Batch:
    """Return rows of the seed prompt, a question, and the answer that the hidden prompt asks for."""
    question_BQ = torch.randint(DIGITS, (rows, PLACES), generator=torch.Generator().manual_seed(seed))
    answer_BA = (question_BQ + torch.tensor(hidden) - FIRST) % DIGITS
    end_B1 = torch.full((rows, 1), END)
    row = torch.cat([torch.tensor([SEED]).expand(rows, -1), question_BQ, end_B1, answer_BA], 1)
    targets_BT = row[:, 1:].clone()
    targets_BT[:, : -LAYOUT.answer_len] = IGNORE
    return Batch(row[:, :-1], targets_BT, torch.zeros_like(targets_BT))


def overlap(hidden: Prompt) -> Callable[[Prompt, int], float]:
    """Return chances of success equal to the share of words that a prompt has in common with
    `hidden`."""
    return lambda prompt, problem: sum(a == b for a, b in zip(prompt, hidden, strict=True)) / len(hidden)


class World:
    """A policy that answers right with probability `chance(prompt, problem)`, and records its
    calls."""

    def __init__(self, batch: Batch, chance: Callable[[Prompt, int], float]) -> None:
        self.batch, self.chance = batch, chance
        self.calls: list[list[tuple[int, Prompt]]] = []

    @property
    def played(self) -> int:
        return sum(len(call) for call in self.calls)

    def __call__(self, problem_R: Tensor, prompt_RP: Tensor) -> Rollouts:
        assert len(problem_R) == len(prompt_RP) > 0
        call = list(zip(problem_R.tolist(), (tuple(p) for p in prompt_RP.tolist()), strict=True))
        self.calls.append(call)
        chance_R = torch.tensor([self.chance(prompt, problem) for problem, prompt in call])
        right_RA = LAYOUT.answers(self.batch)[problem_R]
        is_right_R = torch.rand(len(call)) < chance_R
        answer_RA = torch.where(is_right_R[:, None], right_RA, (right_RA + 1) % DIGITS)
        picked = Batch(*(x[problem_R] for x in self.batch[:3]))
        return Rollouts(problem_R, prompt_RP, answer_RA, torch.zeros(answer_RA.shape), verify(picked, answer_RA))


ARGUMENTS = {
    "name": "prompt_pool", "reset": "never", "emit": 4, "pool": 8, "proposals": 3, "minibatch": 4, "problems": 12,
    "proposer": "mutate", "propose": None, "search": "pool", "accept": "improvement", "layout": LAYOUT,
}  # fmt: skip


def make(**options: object) -> PromptPool:
    """Return a pool as a run builds it: `build` checks the arguments."""
    target = {"_target_": "ttt.adapters.prompt_pool.PromptPool"}
    pool: PromptPool = build(target, group="adapter", given=ARGUMENTS | options, trusted=[])
    return pool


# Functions such as users write, named by `propose: toy_prompts:...`.
def towards_five(candidate, reflective_dataset, components_to_update):
    """Turn one more word into w5."""
    names = candidate["prompt"].split()
    place = next((i for i, word in enumerate(names) if word != "w5"), 0)
    return {"prompt": " ".join([*names[:place], "w5", *names[place + 1 :]])}


def same(candidate, reflective_dataset, components_to_update):
    return dict(candidate)


def raises(candidate, reflective_dataset, components_to_update):
    raise RuntimeError("the reflection model is asleep\nand this is its long traceback")


NOT_A_FUNCTION = 3
