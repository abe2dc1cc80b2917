"""ttt-probe causality as typed, and the line in which a run speaks of itself."""

from __future__ import annotations

import json

import commands
import pytest
import torch
from assembling import assembled
from commands import assert_refused
from harness import FAST, SMALL, TINY, Outcome, only_run, run_here
from hydra.core.global_hydra import GlobalHydra
from policies import ALONE, POOL, RULES
from settings import MLP

from ttt.cli import probe
from ttt.learner import slow_hash
from ttt.run.record import causal_line

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("probe_causality")
HOLDS = "score before update, state from earlier tokens, single pass"
# An adapter of a user's own, in which each position adds the tokens of its whole row.
LEAKING = """
import torch.nn.functional as F
from ttt.adapters.none import NoAdapter

class Peeking(NoAdapter):
    def read(self, model, batch, state, *, write, cache=None):
        logits, state = super().read(model, batch, state, write=write, cache=cache)
        return logits + F.one_hot(batch.tokens_BT, logits.shape[-1]).sum(1, keepdim=True), state
"""


def typed(*words, cwd=None) -> Outcome:
    # A command that ran in this process before may have left Hydra open.
    GlobalHydra.instance().clear()
    return commands.typed(probe.main, "ttt-probe", "causality", *words, cwd=cwd)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with fast weights, and what it showed."""
    folder = tmp_path_factory.mktemp("run")
    outcome = run_here([*TINY, *FAST], folder)
    assert outcome.code == 0, outcome.err
    return only_run(folder), outcome


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
    """A folder of a user's own with an adapter that reads ahead."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "peeking.yaml").write_text("_target_: peeking_adapter.Peeking\nname: peeking\n")
    (folder / "peeking_adapter.py").write_text(LEAKING)
    return folder


def test_a_run_folder_as_typed(run, tmp_path):
    done = typed(run[0], "--out", tmp_path)
    assert done.code == 0, done.err
    assert f"causal {HOLDS}, reset=task" in done.out
    assert "after task 3" in done.out
    numbers = json.loads((tmp_path / "probe.json").read_text())
    assert (numbers["settings"]["length"], numbers["settings"]["places"]) == (16, 16)
    assert set(numbers["profiles"]) == {"slow", "fast", "carried"}
    assert not any(check["leaks"] for check in numbers["checks"])
    assert (tmp_path / "probe.svg").read_text().lstrip().startswith("<?xml")


def test_overrides_as_typed(tmp_path):
    done = typed(*SMALL, "adapter=delta_fast", "--places", 5, cwd=tmp_path)
    assert done.code == 0, done.err
    assert f"causal {HOLDS}, reset=sequence" in done.out
    assert "10 flips at 5 places" in done.out
    assert "base=pretrain, not trained" in done.out
    # Nothing is run, so no folder of a run is left.
    assert not list(tmp_path.glob("outputs/**/*.yaml"))


def test_overrides_read_the_weights_that_a_base_brings(run, tmp_path):
    done = typed(*SMALL, *FAST, "base=checkpoint", f"base.path={run[0]}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "(base=checkpoint)" in done.out


def test_a_leak_is_exit_code_1_with_its_place_and_size(leaking, tmp_path):
    done = typed(*SMALL, "adapter=peeking", "--config-dir", leaking, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.code == 1
    assert "NOT score before update (the score of token " in done.out
    assert "LEAK" in done.out
    assert "leak   slow: " in done.out
    assert any(check["leaks"] for check in json.loads((tmp_path / "out" / "probe.json").read_text())["checks"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "causality: needs"),
        (["nowhere"], "nowhere: no such folder"),
        (["one", "two"], "one: "),
        (["adapter=mlp_fas"], "adapter=mlp_fas: unknown; did you mean mlp_fast?"),
        (["adapter.chnk=4"], "adapter.chnk=4: "),
        ([*SMALL, "adapter=mlp_fast", "adapter.chunk=0"], "adapter.chunk=0: must be at least 1"),
        (["adapter=none", "--places", "0"], "--places 0: must be at least 1"),
        (["adapter=none", "--trials", "3"], "--trials 3: does nothing in causality"),
        ([*MLP], "model=mlp adapter=none: "),
        ([*RULES, *POOL], "prompts"),
    ],
)
def test_wrong_words(words, part, tmp_path):
    assert_refused(typed(*words, cwd=tmp_path), part)


def test_other_probes_take_no_overrides():
    assert_refused(commands.typed(probe.main, "ttt-probe", "state", "adapter=none"), "adapter=none: state takes")


def test_a_run_says_and_records_which_conditions_it_satisfies(run):
    folder, outcome = run
    line = f"{HOLDS}, reset=task"
    assert f"causal   {line}" in outcome.out.splitlines()[:8]
    assert json.loads((folder / "environment.json").read_text())["causal"] == line


def test_a_run_that_leaks_says_so(leaking, tmp_path):
    outcome = run_here([*SMALL, "base=none", "adapter=peeking", f"--config-dir={leaking}"], tmp_path)
    assert outcome.code == 0
    assert "causal   NOT score before update (the score of token " in outcome.out


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ((*SMALL, *FAST), f"{HOLDS}, reset=task"),
        ((*SMALL, *FAST, "trainer.precision=bf16-mixed"), f"{HOLDS}, reset=task"),
        ((*SMALL, *FAST, "task=drift-sequence"), f"{HOLDS}, reset=task, though no task is announced"),
        ((*SMALL, "adapter=none"), HOLDS),
        ((*RULES, *ALONE), HOLDS),
        (MLP, "not probed: its positions are vectors, not tokens"),
        ((*RULES, *POOL), "not probed: its fast weights are prompts, which are not written while reading"),
    ],
)
def test_the_line_of_a_run_moves_nothing(overrides, line):
    assembly = assembled(*overrides)
    fabric = assembly.settings.fabric()
    before = slow_hash(assembly.learner.model), torch.get_rng_state().tolist()
    assert causal_line(assembly, fabric) == line
    assert (slow_hash(assembly.learner.model), torch.get_rng_state().tolist()) == before
    assert all(parameter.grad is None for parameter in assembly.learner.parameters())
    assert not any(x.any() for x in assembly.learner.fast.values())


def test_a_probe_that_fails_costs_no_run(monkeypatch):
    assembly = assembled(*SMALL, *FAST)

    def fails(*words, **named):
        raise RuntimeError("no room\nat all")

    monkeypatch.setattr(assembly.learner.adapter, "read", fails)
    assert causal_line(assembly, assembly.settings.fabric()) == "not probed: RuntimeError: no room"
