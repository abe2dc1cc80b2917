"""Streams on a pretrained model: what a checkpoint holds, how a run goes on, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from assembling import assembled, refusal_of
from families import VOCAB
from harness import only_run, run_here
from interrupted import interrupted_run
from pretrained_runs import QUICK, UPDATES, tiny_pretrained

from ttt.cli.runs.display import Display
from ttt.cli.runs.references import Reference
from ttt.cli.runs.screen import Screen
from ttt.storage.checkpoint import load_newest

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("pretrained_bases")

FAST = ("adapter=mlp_fast", "adapter.chunk=8", "task.num_tasks=2", "task.steps_per_task=3")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_pretrained(tmp_path_factory.mktemp("model"))


def test_a_stream_with_low_rank_updates_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    """Equal to the last bit, from checkpoints that hold the updates alone."""
    typed = [*QUICK, *FAST, *UPDATES, f"model.name={model}"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    assert run_here(typed, whole).code == 0
    resumed = interrupted_run(typed, stopped, monkeypatch, rows=2)
    assert (resumed / "results.json").read_bytes() == (only_run(whole) / "results.json").read_bytes()
    saved = load_newest(resumed / "checkpoints")[0].tensors["slow"]
    assert saved
    # And the adapter's own parameters, which no published model has.
    assert not any(name.endswith(".weight") for name in saved)
    # Bits per byte, since tokens are the model's own.
    quantities = json.loads((resumed / "results.json").read_text())["rows"][0]["scores"]["fast"]
    assert "bits_per_byte" in quantities


def test_a_folder_of_weights_may_move(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "copy")
    one, other = (assembled(*QUICK, *FAST, f"model.name={path}").info for path in (model, copy))
    assert (one.id, one.group) == (other.id, other.group)


def test_a_reference_of_a_pretrained_run_is_a_run_that_its_own_command_finds(model):
    assembly = assembled(*QUICK, *FAST, f"model.name={model}")
    reference = Reference("frozen", assembly, Screen(Display(quiet=True)))
    typed = [*QUICK, *FAST, f"model.name={model}", "strategy=frozen"]
    assert reference.folder.path.name == assembled(*typed).info.folder.name


def test_other_weights_are_another_run(model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "copy")
    typed = [*QUICK, *FAST, f"model.name={copy}"]
    before = assembled(*typed).info.id
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert assembled(*typed).info.id != before


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["optimizer.only=[nowhere]"], "optimizer.only"),
        (["optimizer.only=mlp"], "optimizer.only=mlp"),
        (["trainer.recompute=true"], "trainer.recompute=true"),
        (["trainer.recompute=true", "adapter=sgd_fast"], "adapter=sgd_fast"),
        (["source.tokenizer=bpe-1024"], f"model.name={{model}}: knows {VOCAB + 100} tokens"),
        (["model.dtype=bfloat16"], "model.dtype=bfloat16"),
        (["task.seq_len=1100"], "1024 positions"),
    ],
)
def test_what_does_not_fit_is_one_line(model, words, part):
    line = refusal_of(*QUICK, *FAST, f"model.name={model}", *words)
    assert part.format(model=model) in line
    assert "\n" not in line


def test_a_model_of_ours_cannot_recompute():
    assert "model=hf" in refusal_of("trainer.recompute=true", "source=recall", "base=none")


def test_a_mistyped_name_of_a_model_is_corrected(tmp_path):
    outcome = run_here(["model=hf", "model.nam=x"], tmp_path)
    assert outcome.code == 2
    assert "model.nam=x" in outcome.err
    assert "did you mean name?" in outcome.err
