"""ttt-probe as typed, and against a run's own journal; tests/probes tests what it measures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import commands
import pytest
import torch
import yaml
from commands import assert_refused
from harness import FAST, SMALL, TINY, Outcome, only_run, run_here
from policies import POOL, RULES

from ttt.cli import probe
from ttt.probes.activations import KEYS, RATIOS, TARGETS, unembedding
from ttt.probes.induction import CASES
from ttt.probes.state import watching
from ttt.run.open import open_run

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("probe")


def typed(*words) -> Outcome:
    return commands.typed(probe.main, "ttt-probe", *words)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with fast weights and one without."""
    folders = {}
    for name, args in {"mlp_fast": (*TINY, *FAST), "none": (*SMALL, "base=none", "adapter=none")}.items():
        folder = tmp_path_factory.mktemp(name)
        assert run_here(args, folder).code == 0
        folders[name] = only_run(folder)
    return folders


def test_what_a_state_adds_is_told_from_w0(runs):
    run = open_run(runs["mlp_fast"], trusted=[])
    batch = run.stream.tasks[-1].evaluation()
    with torch.no_grad(), watching(run.learner.model) as seen:
        run.learner(batch, run.learner.fast, write=False)
    for name, layer in seen.items():
        memory_1DF = run.learner.fast[f"{name}.memory"]
        assert memory_1DF.any()
        torch.testing.assert_close(layer.fast_BTD, layer.z_BTF @ memory_1DF.transpose(1, 2), rtol=1e-3, atol=1e-6)


def test_a_run_of_several_hosts_is_opened_on_one_device(runs, tmp_path):
    folder = shutil.copytree(runs["none"], tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["trainer"] |= {"strategy": "ddp", "devices": 8, "nodes": 2}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert open_run(folder, trusted=[]).learned == 3


def test_state_as_typed(runs, tmp_path):
    done = typed("state", runs["mlp_fast"], "--out", tmp_path / "kept")
    assert done.code == 0, done.err
    for words in ("fast state", "layers.0.mlp.memory", "16 x 24", "carried - slow", "after task 3"):
        assert words in done.out
    numbers = json.loads((tmp_path / "kept" / "probe.json").read_text())
    assert (tmp_path / "kept" / "probe.svg").read_text().lstrip().startswith("<?xml")
    # The state in the checkpoint is the one that the journal's last line speaks of.
    assert [row["row"] for row in numbers["journal"]] == [0, 1, 2, 3]
    carried = next(row for row in numbers["tensors"] if row["state"] == "carried")
    assert carried["over_w0"] == pytest.approx(numbers["journal"][-1]["layers.0.mlp.state_over_w0"], rel=1e-4)
    assert 1 <= carried["effective_rank"] <= 16
    # Tokens of the first chunk (4 of 16) read an empty state, later ones do not.
    gains = [part["fast_gain"] for part in numbers["parts"]]
    assert gains[:2] == pytest.approx([0, 0], abs=1e-5)
    assert all(part["read_out"] > 0 for part in numbers["layers"])
    assert numbers["parts"][0]["carried"] != numbers["parts"][0]["slow"]


@pytest.mark.parametrize("name", ["mlp_fast", "none"])
def test_induction_of_a_run_as_typed(runs, name, tmp_path):
    done = typed("induction", runs[name], "--prompts", 40, "--true-prompts", 34, "--out", tmp_path)
    assert done.code == 0, done.err
    assert "40 prompts of 16 random tokens, 32 words" in done.out
    assert "writes off: v* has rank" in done.out
    numbers = json.loads((tmp_path / "probe.json").read_text())
    assert len(numbers["rows"]) == 2 * len(KEYS) * len(TARGETS) * (1 + len(RATIOS))
    # A model that has hardly learned anything ranks a random word anywhere.
    assert 8 < numbers["off"]["rank_v"] < 25
    shuffled = [row for row in numbers["rows"] if row["target"] == "shuffled" and row["ratio"] is None]
    assert all(abs(row["z_v"]) < 0.7 for row in shuffled)
    run = open_run(runs[name], trusted=[])
    assert unembedding(run.learner.model).shape == (32, 16)


def test_synthetic_as_typed(tmp_path):
    sizes = ("--trials", 3, "--width", 32, "--mlp-width", 64, "--vocab", 50, "--tokens", 40, "--seed", 4)
    command = [sys.executable, "-m", "ttt.cli.probe", "induction", *map(str, sizes), "--out", str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "minus earlier mean" in done.stdout
    assert "as predicted" in done.stdout
    numbers = json.loads((tmp_path / "a" / "probe.json").read_text())
    assert numbers["settings"]["mlp_width"] == 64
    assert len(numbers["rows"]) == len(CASES)
    # The same command gives the same numbers and the same picture.
    assert typed("induction", *sizes, "--out", tmp_path / "b").code == 0
    assert json.loads((tmp_path / "b" / "probe.json").read_text())["rows"] == numbers["rows"]
    assert (tmp_path / "b" / "probe.svg").read_bytes() == (tmp_path / "a" / "probe.svg").read_bytes()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "slow RUN, or state RUN"),
        (["stat"], "stat: unknown; did you mean state?"),
        (["state"], "state: "),
        (["induction", "--trails", "3"], "--trails: unknown; did you mean --trials?"),
        (["induction", "--trials", "many"], "'many'"),
        (["induction", "--vocab", "2"], "--vocab 2: must be at least 4"),
        (["induction", "--prompts", "3"], "--prompts 3: "),
        (["induction", "RUN", "--width", "64"], "--width 64: "),
        (["state", "RUN", "--seed", "1"], "--seed 1: "),
        (["state", "RUN", "other"], "other: "),
        (["state", "RUN", "--threads", "0"], "--threads 0: must be at least 1"),
        (["state", "RUNx"], "did you mean"),
        (["state", "RUN/.."], "config.yaml"),
        (["induction", "RUN", "--config-dir", "nowhere"], "--config-dir nowhere: "),
        (["state", "RUN", "--out", "RUN/config.yaml"], "config.yaml: "),
        (["state", "NONE"], "adapter=none"),
    ],
)
def test_wrong_words(runs, words, part):
    names = {"RUN": str(runs["mlp_fast"]), "NONE": str(runs["none"])}
    for name, folder in names.items():
        words = [word.replace(name, folder) for word in words]
    outcome = typed(*words)
    assert_refused(outcome, part)
    assert outcome.err.startswith("ttt-probe: ")


def test_damaged_runs(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["mlp_fast"], run)
    newest = max((run / "checkpoints").iterdir())
    (newest / "slow.safetensors").write_bytes(b"")
    # The checkpoint before it is used instead.
    assert "after task 2" in typed("state", run).out
    shutil.rmtree(run / "checkpoints")
    assert_refused(typed("state", run), run, "checkpoint")
    for content in ("seed: 0\n", "a: [1\n"):
        (run / "config.yaml").write_text(content)
        assert_refused(typed("induction", run), run, "config")


def test_a_config_that_no_longer_fits(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["mlp_fast"], run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("layers: 2", "layers: 3"))
    assert_refused(typed("state", run), "layers.2")


def test_prompts_hold_nothing_to_probe(tmp_path):
    assert run_here([*RULES, *POOL], tmp_path).code == 0
    folder = only_run(tmp_path)
    assert_refused(typed("state", folder), "prompts")
    # It opens all the same, for those who want to look at more than fast weights.
    assert open_run(folder, trusted=[]).learner.fast
