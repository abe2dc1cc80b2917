"""What lm-eval is not asked for, because it would never answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ttt.requests import suite
from ttt.requests.suite import Suite, run_suite

MANAGER = SimpleNamespace(all_tasks=["ruler", "ruler_vt", "niah_single_1"])


def model_of(characters: int) -> SimpleNamespace:
    """A model each of whose tokens has this many characters."""
    return SimpleNamespace(tok_encode=lambda text: text[::characters], requests=0)


@pytest.mark.parametrize("task", ["ruler", "ruler_vt", "ruler*"])
def test_an_example_that_never_fits_is_refused(task):
    with pytest.raises(ValueError, match="--tasks ruler_vt: "):
        run_suite(Suite([task]), model_of(1), MANAGER)


def test_other_tasks_and_tokens_are_asked(monkeypatch):
    asked = []

    def simple_evaluate(*, tasks, **rest):
        asked.append(tasks)
        return {"results": {}}

    monkeypatch.setattr(suite, "load_library", lambda: SimpleNamespace(simple_evaluate=simple_evaluate))
    run_suite(Suite(["niah_single_1"]), model_of(1), MANAGER)
    run_suite(Suite(["ruler_vt"]), model_of(4), MANAGER)
    assert asked == [["niah_single_1"], ["ruler_vt"]]
