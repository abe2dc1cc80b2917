"""Promises about scores and states catch an adapter that returns others, and say what came."""

from __future__ import annotations

import pytest
import torch
from strategy_jobs import NANO, TOKENS, config_of

from ttt.adapters.base import shared
from ttt.adapters.none import NoAdapter
from ttt.promises import shapes
from ttt.promises.parts import promises_of, rule
from ttt.promises.runs import TinyRun
from ttt.promises.shapes import adapter_shapes, adds, describes, passes_on, scores_vocabulary, starts_zero

SIZE = 3
# Initial states with something wrong in them.
INITIAL = {
    "ones": torch.ones(1, SIZE),
    "spread": torch.linspace(-3, 3, SIZE)[None],
    "half": torch.zeros(1, SIZE, dtype=torch.float16),
    "no lane": torch.zeros(SIZE),
    "two lanes": torch.zeros(2, SIZE),
}


class Flawed(NoAdapter):
    """A state that counts what was read; `flaw` names what is wrong with it."""

    def __init__(self, flaw: str) -> None:
        super().__init__(name="flawed")
        self.flaw, self.passes_logits = flaw, flaw == "looks"

    def initial(self):
        if self.flaw == "no dict":
            return None
        return {"open.S" if self.flaw == "open" else "S": INITIAL.get(self.flaw, torch.zeros(1, SIZE))}

    def read(self, model, batch, state, *, write, cache=None):
        logits, _ = super().read(model, batch, state, write=write, cache=cache)
        if self.flaw == "looks":
            logits = logits.softmax(1)
        count = (batch.segment_BT >= 0).sum(1, keepdim=True) * model.get_input_embeddings().weight.sum()
        size = SIZE + (self.flaw == "grows")
        after = {"S": state["S"].mean(0) + count.expand(-1, size) if write else torch.zeros(1, size)}
        after |= {"T": after["S"]} if self.flaw == "new name" else {"open.k": count}
        return logits if self.flaw == "alone" else (logits[..., self.flaw == "narrow" :], after)

    def carry(self, state):
        closed = {"S": state["S"]} if self.flaw == "attached" else {"S": state["S"].detach()}
        return state if self.flaw == "stays open" else shared(closed)

    def diagnostics(self, state):
        return "words" if self.flaw == "diagnostics" else {}

    def executor(self, *, length, dtype):
        return None if self.flaw == "executor" else "plain"


def run_with(flaw: str) -> TinyRun:
    run = TinyRun(config_of(*TOKENS))
    run.plain.learner.adapter = Flawed(flaw)
    return run


@pytest.mark.parametrize("promise", [adapter_shapes, starts_zero, describes, scores_vocabulary])
def test_an_honest_adapter_keeps_them(promise):
    assert promise(run_with("")).holds


BROKEN = [
    ("ones", starts_zero, "S is not zero, its largest number is 1"),
    ("spread", starts_zero, "S is not zero, its largest number is 3"),
    ("half", starts_zero, "S is torch.float16, not torch.float32"),
    ("no dict", adapter_shapes, "the state is NoneType"),
    ("no lane", adapter_shapes, "S has the shape [3], not [1, ...]"),
    ("two lanes", adapter_shapes, "S has the shape [2, 3], not [1, ...]"),
    ("open", adapter_shapes, "open.S belongs to an open chunk"),
    ("grows", adapter_shapes, ", 4], not [1 or "),
    ("new name", adapter_shapes, "T is a new name; initial() has S"),
    ("narrow", adapter_shapes, "scores have the shape"),
    ("narrow", scores_vocabulary, "scores have the shape"),
    ("alone", adapter_shapes, "returns Tensor, not scores and a state"),
    ("attached", adapter_shapes, "carry(state): S is not detached"),
    ("stays open", adapter_shapes, "carry(state): open.k is a new name"),
    ("looks", passes_on, "where few are scored"),
    ("diagnostics", describes, "'words'"),
    ("executor", describes, "None, not words"),
]


@pytest.mark.parametrize(("flaw", "promise", "where"), BROKEN)
def test_a_flaw_shows_what_came(flaw, promise, where):
    ruling = promise(run_with(flaw))
    assert ruling.holds is False
    assert where in ruling.why


def test_a_state_that_adds_to_another_matrix(monkeypatch):
    run = TinyRun(config_of(*NANO))
    assert adds(run).holds
    pairs = shapes.additive
    monkeypatch.setattr(
        shapes, "additive", lambda adapter: [(pairs(adapter)[i][0], pairs(adapter)[1 - i][1]) for i in (0, 1)]
    )
    assert "added to its matrices" in adds(run).why
    monkeypatch.setattr(shapes, "additive", lambda adapter: [(pairs(adapter)[0][0], "nowhere")])
    assert "nowhere" in adds(run).why


def test_nothing_else_is_tried_where_shapes_are_broken():
    rulings = {words: rule(judge, trusted=[]) for words, judge in promises_of("adapter", run_with("narrow")).items()}
    broken, *others = rulings.values()
    assert broken.holds is False
    assert {ruling.holds for ruling in others} == {None}


def test_an_adapter_without_states_has_nothing_to_keep():
    run = run_with("")
    run.plain.learner.adapter = NoAdapter(name="none")
    assert starts_zero(run).holds is None
    assert adapter_shapes(run).holds
