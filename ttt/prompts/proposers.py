"""Who says how a prompt might be better, having read where it failed. The interface is that of the gepa package.

    propose({"prompt": "null null"}, {"prompt": [record, ...]}, ["prompt"])  ->  {"prompt": "null reverse"}

A record is one failed rollout, as text for a model to read and as tokens:
    {"Inputs": {"question": "3 1 4 1 10"}, "Generated Outputs": "3 1 4 1",
     "Feedback": "reward 0; the right answer is 1 4 1 3",
     "question": [3, 1, 4, 1, 10], "answer": [3, 1, 4, 1], "right": [1, 4, 1, 3], "reward": 0.0}
All randomness is torch's global generator. Shapes: B records, Q question, A answer.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ttt.prompts.rollouts import Rollouts
from ttt.stream import Batch, Layout, Prompt

log = logging.getLogger("ttt")

# The one component of our candidates.
COMPONENT = "prompt"
Texts = dict[str, str]
Record = Mapping[str, Any]
Propose = Callable[[Texts, Mapping[str, Sequence[Record]], list[str]], Texts]
# (prompt, records) -> another prompt, or None where there is none.
Proposer = Callable[[Prompt, Sequence[Record]], Prompt | None]

# `informed`: edits it chooses among, and how often it edits at random.
SHORT_LIST, BLIND = 3, 0.2


def failures(batch: Batch, layout: Layout, rollouts: Rollouts) -> list[Record]:
    """A record for each rollout without the full reward."""
    called = dict(zip(layout.words, layout.names, strict=True))

    def text(tokens: Sequence[int]) -> str:
        return " ".join(called.get(token, str(token)) for token in tokens)

    questions, answers = layout.questions(batch).tolist(), layout.answers(batch).tolist()
    records: list[Record] = []
    played = zip(rollouts.problem_R.tolist(), rollouts.answer_RA.tolist(), rollouts.reward_R.tolist(), strict=True)
    for problem, answer, reward in played:
        if reward >= 1:
            continue
        question, right = questions[problem], answers[problem]
        feedback = f"reward {reward:g}; the right answer is {text(right)}"
        words = {"Inputs": {"question": text(question)}, "Generated Outputs": text(answer), "Feedback": feedback}
        records.append(words | {"question": question, "answer": answer, "right": right, "reward": reward})
    return records


def edits(prompt: Prompt, words: Sequence[int]) -> list[Prompt]:
    """All prompts that differ in one word."""
    return [
        (*prompt[:place], word, *prompt[place + 1 :])
        for place, old in enumerate(prompt)
        for word in words
        if word != old
    ]


def one_of(prompts: Sequence[Prompt]) -> Prompt:
    return prompts[int(torch.randint(len(prompts), ()))]


class Mutate:
    """Blind: one word, at random, becomes another."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __call__(self, candidate: Texts, records: Mapping[str, Sequence[Record]], components: list[str]) -> Texts:
        prompt = self._layout.parse(candidate[COMPONENT])
        return {COMPONENT: self._layout.text(one_of(edits(prompt, self._layout.words)))}


class Informed:
    """An ORACLE: it knows what prompts mean (`layout.means`), where a reflection model would have to guess.

    Of all edits of one word, those three that agree best, token by token, with the right answers of what failed; one
    of them at random. One time in five any edit. Figures of it belong beside those of `mutate`.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __call__(self, candidate: Texts, records: Mapping[str, Sequence[Record]], components: list[str]) -> Texts:
        layout = self._layout
        found = edits(layout.parse(candidate[COMPONENT]), layout.words)
        if float(torch.rand(())) >= BLIND:
            found = self._best(found, records[COMPONENT])
        return {COMPONENT: layout.text(one_of(found))}

    def _best(self, found: list[Prompt], records: Sequence[Record]) -> list[Prompt]:
        question_BQ = torch.tensor([record["question"] for record in records])
        right_BA = torch.tensor([record["right"] for record in records])
        agree = [float((self._layout.means(prompt, question_BQ) == right_BA).float().mean()) for prompt in found]
        # Equals in random order.
        order = sorted(torch.randperm(len(found)).tolist(), key=lambda i: -agree[i])
        return [found[i] for i in order[:SHORT_LIST]]


class Asked:
    """A proposer as we call it: prompts in, a prompt out. A user's function that fails costs one warning, not a run."""

    def __init__(self, propose: Propose, layout: Layout, *, forgive: bool) -> None:
        self._propose, self._layout, self._forgive = propose, layout, forgive
        self._warned = False

    def __call__(self, prompt: Prompt, records: Sequence[Record]) -> Prompt | None:
        try:
            texts = self._propose({COMPONENT: self._layout.text(prompt)}, {COMPONENT: records}, [COMPONENT])
            return self._read(texts)
        # Whatever somebody else's function raises, a script's exit too.
        except (Exception, SystemExit) as error:
            if not self._forgive:
                raise
            self._warn(error)
            return None

    def _read(self, texts: object) -> Prompt:
        if not isinstance(texts, Mapping) or not isinstance(texts.get(COMPONENT), str):
            raise ValueError(f"must give {{{COMPONENT!r}: text}}, not {texts!r:.80}")
        return self._layout.parse(texts[COMPONENT])

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            log.warning("adapter.propose: no proposal, here and wherever it fails again: %s", reason)


def imported(path: str) -> Propose:
    """The function that `package.module:function` names. Raises ValueError."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    # Whatever a module raises while it is imported.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"adapter.propose={path}: cannot be imported: {reason}; must be such as package.module:function"
        ) from error
    if not callable(found):
        raise ValueError(f"adapter.propose={path}: not a function")
    function: Propose = found
    return function
