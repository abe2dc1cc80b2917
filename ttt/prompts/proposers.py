"""Proposers read where a prompt failed and suggest another, through the interface of gepa.

    propose({"prompt": "null null"}, {"prompt": [record, ...]}, ["prompt"])
        ->  {"prompt": "null reverse"}

A record describes one failed rollout, as text for a model to read and as tokens:
    {"Inputs": {"question": "3 1 4 1 10"}, "Generated Outputs": "3 1 4 1",
     "Feedback": "reward 0; the right answer is 1 4 1 3",
     "question": [3, 1, 4, 1, 10], "answer": [3, 1, 4, 1], "right": [1, 4, 1, 3], "reward": 0.0}
All randomness comes from torch's global generator. Shapes: B records, Q question, A answer.
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

# gepa optimises systems of several texts; ours has this one.
COMPONENT = "prompt"
Texts = dict[str, str]
Record = Mapping[str, Any]
ProposeTexts = Callable[[Texts, Mapping[str, Sequence[Record]], list[str]], Texts]
# (prompt, records) -> another prompt; None: no proposal.
Proposer = Callable[[Prompt, Sequence[Record]], Prompt | None]

# `Informed` chooses among this many of the best edits, and with this probability among all edits.
SHORT_LIST, BLIND = 3, 0.2


def failures(batch: Batch, layout: Layout, rollouts: Rollouts) -> list[Record]:
    """Return a record for each rollout that did not earn the full reward."""
    name_of = dict(zip(layout.words, layout.names, strict=True))

    def text(tokens: Sequence[int]) -> str:
        # Words of prompts have names; tokens of questions and answers are shown as numbers.
        return " ".join(name_of.get(token, str(token)) for token in tokens)

    questions, answers = layout.questions(batch).tolist(), layout.answers(batch).tolist()
    records: list[Record] = []
    played = zip(rollouts.problem_R.tolist(), rollouts.answer_RA.tolist(), rollouts.reward_R.tolist(), strict=True)
    for problem, answer, reward in played:
        if reward >= 1:
            continue
        question, right = questions[problem], answers[problem]
        feedback = f"reward {reward:g}; the right answer is {text(right)}"
        # These three keys are what gepa's own reflection prompt shows to a language model.
        words = {"Inputs": {"question": text(question)}, "Generated Outputs": text(answer), "Feedback": feedback}
        records.append(words | {"question": question, "answer": answer, "right": right, "reward": reward})
    return records


def edits(prompt: Prompt, words: Sequence[int]) -> list[Prompt]:
    """Return all prompts that differ from `prompt` in one word."""
    return [
        (*prompt[:place], word, *prompt[place + 1 :])
        for place, old in enumerate(prompt)
        for word in words
        if word != old
    ]


def draw(prompts: Sequence[Prompt]) -> Prompt:
    """Return a prompt at random, all with the same probability."""
    return prompts[int(torch.randint(len(prompts), ()))]


class Mutate:
    """A blind proposer: it changes one word at random."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __call__(self, candidate: Texts, records: Mapping[str, Sequence[Record]], components: list[str]) -> Texts:
        prompt = self._layout.parse(candidate[COMPONENT])
        return {COMPONENT: self._layout.text(draw(edits(prompt, self._layout.words)))}


class Informed:
    """An ORACLE: it knows what prompts mean (`layout.means`); a reflection model has to guess.

    It draws from the three one-word edits whose meaning agrees best, token by token, with the right
    answers of the failures; one time in five from all edits. Report its results beside those of
    `Mutate`.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __call__(self, candidate: Texts, records: Mapping[str, Sequence[Record]], components: list[str]) -> Texts:
        layout = self._layout
        options = edits(layout.parse(candidate[COMPONENT]), layout.words)
        # Without blind edits a search would end wherever no single edit helps.
        if float(torch.rand(())) >= BLIND:
            options = self._best(options, records[COMPONENT])
        return {COMPONENT: layout.text(draw(options))}

    def _best(self, options: list[Prompt], records: Sequence[Record]) -> list[Prompt]:
        question_BQ = torch.tensor([record["question"] for record in records])
        right_BA = torch.tensor([record["right"] for record in records])
        agree = [float((self._layout.means(prompt, question_BQ) == right_BA).float().mean()) for prompt in options]
        # Shuffled before the stable sort, so that chance decides between equally good edits.
        order = sorted(torch.randperm(len(options)).tolist(), key=lambda i: -agree[i])
        return [options[i] for i in order[:SHORT_LIST]]


class TokenProposer:
    """A proposer from token ids to token ids around a function from texts to texts.

    With `forgive`, a function that fails costs one warning and no proposal: it is the user's, and a
    run of hours should survive it. Without, exceptions pass.
    """

    def __init__(self, propose: ProposeTexts, layout: Layout, *, forgive: bool) -> None:
        self._propose, self._layout, self._forgive = propose, layout, forgive
        self._warned = False

    def __call__(self, prompt: Prompt, records: Sequence[Record]) -> Prompt | None:
        try:
            texts = self._propose({COMPONENT: self._layout.text(prompt)}, {COMPONENT: records}, [COMPONENT])
            return self._read(texts)
        # A user's function may raise anything; one that is written as a script may even exit.
        except (Exception, SystemExit) as error:
            if not self._forgive:
                raise
            self._warn(error)
            return None

    def _read(self, texts: object) -> Prompt:
        if not isinstance(texts, Mapping) or not isinstance(texts.get(COMPONENT), str):
            raise ValueError(f"must return {{{COMPONENT!r}: text}}, not {texts!r:.80}")
        return self._layout.parse(texts[COMPONENT])

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            log.warning("adapter.propose: no proposal; later failures are not reported: %s", _first_line(error))


def import_function(path: str) -> ProposeTexts:
    """Import the function that `package.module:function` names. Raises ValueError."""
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    # A module may raise anything while it is imported.
    except Exception as error:
        raise ValueError(
            f"adapter.propose={path}: cannot be imported: {_first_line(error)}; must be like package.module:function"
        ) from error
    if not callable(function):
        raise ValueError(f"adapter.propose={path}: not a function")
    propose: ProposeTexts = function
    return propose


def _first_line(error: BaseException) -> str:
    # Messages are one line; an exception may carry a whole traceback.
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
