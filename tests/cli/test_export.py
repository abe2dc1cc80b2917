"""ttt-export as typed: transformers, peft and we ourselves open what it writes, and read the same."""

from __future__ import annotations

import json

import commands
import pytest
import torch
from commands import assert_refused
from harness import SMALL, Outcome, only_run, run_here
from pretrained_runs import CONVERT, QUICK, UPDATES, run_of, tiny_pretrained

from ttt.cli import export
from ttt.export.export import open_exported
from ttt.run.open import open_run
from ttt.storage.read import read_results
from ttt.stream import Batch

pytest.importorskip("transformers")
# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("export")
LORA = (*CONVERT, *UPDATES)


def typed(*words) -> Outcome:
    return commands.typed(export.main, "ttt-export", *words)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    """Frozen weights under fast ones, low-rank updates beside these, and everything learned."""
    words = {"frozen": CONVERT, "updates": LORA, "all": (*CONVERT, "optimizer.only=null", "adapter.reset=never")}
    folder = tmp_path_factory.mktemp("runs")
    return {name: run_of(model, folder / name, *typed_words) for name, typed_words in words.items()}


def exported(run, to, *words):
    outcome = typed(run, "--to", to, *words)
    assert outcome.code == 0, outcome.err
    assert str(to) in outcome.out
    return to


def some_batch():
    x_BT = torch.randint(3, 400, (2, 24), generator=torch.Generator().manual_seed(1))
    return Batch(x_BT, x_BT, torch.zeros_like(x_BT))


def plain_logits(learner):
    """Writes off, from the initial state."""
    with torch.no_grad():
        return learner.eval()(some_batch(), learner.adapter.initial(), write=False)[0]


@pytest.mark.parametrize("name", ["frozen", "updates", "all"])
def test_an_exported_folder_opens_as_the_learner_bit_for_bit(runs, tmp_path, name):
    run = open_run(runs[name], trusted=[]).learner
    again = open_exported(exported(runs[name], tmp_path / "out"))
    with torch.no_grad():
        here_BTV, after = run.eval()(some_batch(), run.fast)
        there_BTV, after_too = again(some_batch(), again.fast)
    assert torch.equal(here_BTV, there_BTV)
    assert all(torch.equal(after[key], after_too[key]) for key in after)
    assert not torch.equal(here_BTV, plain_logits(run))
    assert again.configure_optimizers().param_groups


@pytest.mark.parametrize("name", ["frozen", "all"])
def test_transformers_opens_the_slow_weights(runs, tmp_path, name):
    import transformers

    folder = exported(runs[name], tmp_path / "out")
    there = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        there_BTV = there(some_batch().tokens_BT).logits
    assert torch.equal(there_BTV, plain_logits(open_run(runs[name], trusted=[]).learner))
    assert transformers.AutoTokenizer.from_pretrained(folder).decode([70, 80])
    assert "AutoModelForCausalLM" in (folder / "README.md").read_text()


# Of transformers, about what peft calls.
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_updates_are_merged_or_opened_by_peft(runs, tmp_path):
    import transformers

    ours_BTV = plain_logits(open_run(runs["updates"], trusted=[]).learner)
    merged = exported(runs["updates"], tmp_path / "merged", "--merge")
    there = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(there(some_batch().tokens_BT).logits, ours_BTV, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain_logits(open_exported(merged)), ours_BTV, rtol=1e-4, atol=1e-4)
    peft = pytest.importorskip("peft")
    apart = exported(runs["updates"], tmp_path / "apart")
    assert not (apart / "config.json").exists()
    with torch.no_grad():
        there = peft.AutoPeftModelForCausalLM.from_pretrained(apart, dtype=torch.float32).eval()
        assert torch.equal(there(some_batch().tokens_BT).logits, ours_BTV)


def test_what_was_learned_lies_in_the_folder(runs, tmp_path):
    frozen = exported(runs["frozen"], tmp_path / "frozen")
    assert json.loads((frozen / "fast_weights.json").read_text())["adapter"]["name"] == "mlp_fast_convert"
    # A state that is reset in each document is not worth a file.
    assert not (frozen / "fast_state.safetensors").exists()
    lived_on = exported(runs["all"], tmp_path / "all")
    state = open_exported(lived_on).fast
    kept = open_run(runs["all"], trusted=[]).learner.fast
    assert all(torch.equal(state[key], kept[key]) for key in kept)


def test_an_exported_folder_is_a_model_and_a_base(runs, tmp_path):
    """Runs begin from it as from any pretrained model; the adapter's parameters are its base."""
    folder = exported(runs["all"], tmp_path / "out")
    base = ("base=checkpoint", f"base.path={folder / 'fast_weights.safetensors'}")
    run = run_of(folder, tmp_path / "next", *CONVERT, "optimizer.only=null", *base)
    started, ended = (read_results(path).matrix("fast", "loss")[row, 0] for path, row in ((run, 0), (runs["all"], -1)))
    assert started == pytest.approx(ended)


def test_what_cannot_be_exported_is_refused_in_one_line(runs, model, tmp_path):
    assert run_here([*SMALL, "adapter=none", "base=none"], tmp_path).code == 0
    nano = only_run(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    each = run_of(model, tmp_path / "each", *QUICK, "task=curriculum", "adapter=none", *UPDATES, "strategy.per=task")
    to = tmp_path / "out"
    assert_refused(typed(tmp_path / "nowhere", "--to", to), "nowhere")
    assert_refused(typed(model, "--to", to), model, "config.yaml")
    assert_refused(typed(nano, "--to", to), nano, "model=nano")
    # Beside weights that were changed before, updates alone are not the model.
    base = ("base=checkpoint", f"base.path={runs['updates']}")
    later = run_of(model, tmp_path / "later", *LORA, *base)
    assert_refused(typed(later, "--to", to), later, "--merge")
    assert_refused(typed(runs["frozen"], "--to", tmp_path / "full"), "--to", "full")
    assert_refused(typed(runs["frozen"], "--to", tmp_path / "full" / "file"), "--to")
    assert_refused(typed(each, "--to", to), each, "strategy.per")
    assert not to.exists()
