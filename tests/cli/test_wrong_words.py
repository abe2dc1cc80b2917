"""Typos: one line that names the nearest match, exit code 2, nothing left behind."""

from __future__ import annotations

import pytest
from commands import assert_refused
from harness import run_cold, run_here

# The command, and what its refusal names.
WRONG = [
    (["task=split_sequnce"], ["task=split_sequnce", "did you mean split-sequence?"]),
    (["adapter=mlpfast"], ["adapter=mlpfast", "did you mean mlp_fast?"]),
    (["-m", "adapter=none,mlp_fats"], ["adapter=mlp_fats", "did you mean mlp_fast?"]),
    (["adaptr=none"], ["adaptr=none", "did you mean adapter=none?"]),
    (["adapter.chnk=16"], ["adapter.chnk=16", "adapter", "did you mean adapter.chunk=16?"]),
    (["optimizer.learning_rate=1"], ["optimizer.learning_rate=1", "'learning_rate'", "optimizer"]),
    (["adapter=none", "adapter.chunk=16"], ["adapter.chunk=16", "'chunk'"]),
    (["seed=abc"], ["seed=abc", "integer"]),
    (["adapter=null"], ["adapter=null", "allowed:"]),
    (["experiment=null"], ["experiment=null", "allowed:"]),
    (["eval=3"], ["eval=3", "eval.NAME", "every", "tasks"]),
    (["sweep=null"], ["sweep=null", "sweep.NAME"]),
    (["published=3"], ["published=3", "experiment/NAME.yaml"]),
    (["strategy=null"], ["strategy=null", "allowed:"]),
    (["seed="], ["seed=", "integer"]),
    (["seed=0,1"], ["seed=0,1", "-m"]),
    (["~adapter"], ["~adapter"]),
    (["output_dir="], ["output_dir=", "folder"]),
    (["+sed=1"], ["+sed=1", "did you mean seed=1?"]),
    (["a b"], ["a b", "name=value"]),
    (["--config-dir", "nowhere"], ["nowhere", "--config-dir nowhere"]),
    (["--sead"], ["--sead", "ttt-run --help"]),
    (["-m", "--cfg", "job"], ["-m", "--cfg"]),
]


@pytest.mark.parametrize(("args", "parts"), WRONG, ids=lambda value: value[-1])
def test_wrong_words(args, parts, tmp_path):
    outcome = run_here(args, tmp_path)
    assert_refused(outcome, *parts)
    assert outcome.err.startswith("ttt-run: ")
    assert not list(tmp_path.iterdir())


def test_as_a_process_of_its_own(tmp_path):
    outcome = run_cold(["adapter=mlpfast"], tmp_path)
    assert_refused(outcome, "adapter=mlpfast", "did you mean mlp_fast?")
    assert outcome.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("switch", ["report", "references"])
def test_a_switch_is_true_or_false(switch, tmp_path):
    assert_refused(run_here([f"{switch}=maybe"], tmp_path), f"{switch}=maybe", "true or false")
