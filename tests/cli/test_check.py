"""ttt-check as typed: a table, an exit code, and one line for what is wrong."""

from __future__ import annotations

import commands
import pytest

from ttt.cli import check

MINE = '''
from typing import Literal
import torch
from ttt.adapters.none import NoAdapter


class Peek(NoAdapter):
    """Adds to each score something of the next token."""

    passes_logits = False

    def read(self, model, batch, state, *, write, cache=None):
        logits, after = super().read(model, batch, state, write=write, cache=cache)
        return logits + batch.targets_BT[..., None], after


class Fails(NoAdapter):
    def read(self, model, batch, state, *, write, cache=None):
        if len(batch.tokens_BT) == 1:
            raise KeyError("rows")
        return super().read(model, batch, state, write=write, cache=cache)


class Lacks(NoAdapter):
    carry = None


class Ones(NoAdapter):
    def initial(self):
        return {"S": torch.ones(1, 2)}

    def read(self, model, batch, state, *, write, cache=None):
        return super().read(model, batch, state, write=write, cache=cache)[0], state

    def carry(self, state):
        return state


class Narrow(NoAdapter):
    def read(self, model, batch, state, *, write, cache=None):
        logits, after = super().read(model, batch, state, write=write, cache=cache)
        return logits[..., 1:], after


class Breaks(NoAdapter):
    def initial(self):
        return {}["S"]


class Short(NoAdapter):
    def __init__(self, *, name: str, reset: Literal["task"]):
        super().__init__(name=name)
        self.reset = reset
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked")
    (folder / "adapter").mkdir()
    (folder / "peeking.py").write_text(MINE)
    for name in ("Peek", "Fails", "Lacks", "Ones", "Narrow", "Breaks", "Short"):
        (folder / "adapter" / f"{name.lower()}.yaml").write_text(f"_target_: peeking.{name}\nname: {name.lower()}\n")
    return folder


def typed(*words, cwd=None):
    return commands.typed(check.main, "ttt-check", *words, cwd=cwd)


def row(outcome, promise):
    """The cells of a promise: kept, and why not."""
    (line,) = [line for line in outcome.out.splitlines() if line.startswith(promise)]
    kept, _, why = line.removeprefix(promise).strip().partition(" ")
    return kept, why.strip()


def test_parts_of_the_project_keep_their_promises(tmp_path):
    outcome = typed("optimizer=sgd", "task=split-sequence", cwd=tmp_path)
    assert outcome.code == 0, outcome.out + outcome.err
    assert "NO" not in outcome.out
    # A check leaves nothing behind.
    assert list(tmp_path.iterdir()) == []


def test_a_leak_of_ones_own_adapter_is_shown(mine):
    outcome = typed("adapter=peek", "--config-dir", mine)
    assert outcome.code == 1
    assert row(outcome, "no token moves a score before it")[0] == "NO"
    assert row(outcome, "fast weights end with their lifetime")[0] == "-"


def test_an_error_breaks_a_promise_and_names_its_line(mine):
    outcome = typed("adapter=fails", "--config-dir", mine)
    assert outcome.code == 1
    kept, why = row(outcome, "rows do not touch each other")
    assert kept == "NO"
    assert "KeyError" in why
    assert "(peeking.py, line 20)" in why


def test_a_part_that_lacks_a_member_is_refused(mine):
    commands.assert_refused(typed("adapter=lacks", "--config-dir", mine), "adapter=lacks: Lacks lacks carry(state)")


def test_a_state_of_ones_is_no_start(mine):
    outcome = typed("adapter=ones", "--config-dir", mine)
    assert outcome.code == 1
    kept, why = row(outcome, "states are fp32 and zero at the start")
    assert kept == "NO"
    assert "S is not zero" in why


def test_scores_of_another_shape_are_a_broken_promise(mine):
    outcome = typed("adapter=narrow", "--config-dir", mine)
    assert outcome.code == 1
    kept, why = row(outcome, "scores and states have their shapes")
    assert kept == "NO"
    assert "31], not [4, 24, 32]" in why
    assert row(outcome, "padding changes nothing")[0] == "-"


def test_an_error_before_a_run_is_a_broken_promise(mine):
    outcome = typed("adapter=breaks", "--config-dir", mine)
    assert outcome.code == 1
    assert row(outcome, "a run can be put together with it") == ("NO", "KeyError: 'S' (peeking.py, line 47)")


def test_a_lifetime_that_cannot_be_shorter_breaks_nothing(mine):
    outcome = typed("adapter=short", "+adapter.reset=task", "--config-dir", mine)
    assert outcome.code == 0, outcome.out + outcome.err
    kept, why = row(outcome, "packed documents read as separate ones")
    assert kept == "-"
    assert "adapter.reset=sequence" in why


REFUSED = [
    ([], ["adapter=mine --config-dir mine"]),
    (["adaptr=none"], ["did you mean adapter?"]),
    (["adapter=nono"], ["adapter=nono", "did you mean none?"]),
    (["adapter=mlp_fast", "adapter.chunk=0"], ["adapter.chunk=0", "at least 1"]),
    (["adapter=mlp_fast", "adapter.chnk=2"], ["adapter.chnk=2", "chunk"]),
    (["adapter=mine", "--config-dir", "nowhere"], ["--config-dir nowhere"]),
    (["adapter=none", "--confg", "x"], ["--confg", "did you mean --config-dir?"]),
    (["strategy=distill", "adapter=none"], ["strategy=distill"]),
]


@pytest.mark.parametrize(("words", "parts"), REFUSED)
def test_what_is_wrong_is_one_line(words, parts):
    commands.assert_refused(typed(*words), *parts)
