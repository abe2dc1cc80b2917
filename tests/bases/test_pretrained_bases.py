"""Runs of a pretrained model as bases: what stayed as published, low-rank updates, other adapters."""

from __future__ import annotations

import re

import pytest
import torch
from assembling import assembled, refusal_of
from pretrained_runs import CONVERT, QUICK, UPDATES, run_of, tiny_pretrained

from ttt.run.open import open_run
from ttt.storage.checkpoint import load_newest

pytest.importorskip("transformers")
# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("pretrained_bases")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    words = {"frozen": CONVERT, "updates": (*CONVERT, *UPDATES)}
    return {name: run_of(model, folder / name, *typed) for name, typed in words.items()}


def begun_from(run, model, *words):
    """A learner of a new stream, before its first step."""
    typed = [*QUICK, "task=split-sequence", "task.num_tasks=2", "adapter=mlp_fast_convert", "adapter.chunk=4"]
    base = ["adapter.layers=null", "base=checkpoint", f"base.path={run}", f"model.name={model}"]
    assembly = assembled(*typed, *base, *words)
    fabric = assembly.settings.fabric()
    return assembly.engine(fabric, assembly.base_weights(fabric, lambda event: None)).learner


def parameters(learner):
    return {name: x.detach() for name, x in learner.model.named_parameters()}


def test_the_frozen_backbone_stays_as_published_and_is_not_saved(runs, model):
    """What was learned is the adapter's; the rest comes with the model, whatever is learned next."""
    saved = load_newest(runs["frozen"] / "checkpoints")[0].tensors["slow"]
    fresh = parameters(assembled(*CONVERT, f"model.name={model}").learner)
    assert saved
    assert all("mlp.down_proj." in name and not name.endswith("weight") for name in saved)
    for words in (["adapter.reset=never", "adapter.carry=mean"], ["optimizer.only=null"], ["adapter.decay=0.5"]):
        begun = parameters(begun_from(runs["frozen"], model, *words))
        assert all(torch.equal(begun[name], saved.get(name, fresh[name])) for name in begun)


def test_updates_and_the_adapter_are_learned_together(runs):
    """optimizer.only=[adapter] beside strategy=lora_task: both move, and nothing else."""
    run = open_run(runs["updates"], trusted=[])
    changed = run.learner.model.as_published() ^ parameters(run.learner).keys()
    ends = {re.sub(r".*\.(lora\.)?", "", name) for name in changed}
    assert ends == {"a_RI", "b_OR", "conv_OD", "log_step", "target_DD"}
    assert all(parameters(run.learner)[name].any() for name in changed if name.endswith(("b_OR", "conv_OD")))


def test_updates_are_added_to_their_matrices(runs, model):
    run = parameters(open_run(runs["updates"], trusted=[]).learner)
    begun = parameters(begun_from(runs["updates"], model))
    updated = [name.removesuffix("lora.a_RI") for name in run if name.endswith("lora.a_RI")]
    assert len(updated) == 21
    for layer in updated:
        a_RI, b_OR = run[f"{layer}lora.a_RI"], run[f"{layer}lora.b_OR"]
        # alpha is 16, the rank 2.
        expected_OI = run[f"{layer}weight"] + torch.einsum("or,ri->oi", b_OR, a_RI) * 8
        torch.testing.assert_close(begun[f"{layer}weight"], expected_OI)
    alike = [name for name in begun if name.removesuffix("weight") not in updated]
    assert all(torch.equal(begun[name], run[name]) for name in alike)
    # A new update beside the sum of both.
    again = parameters(begun_from(runs["updates"], model, *UPDATES))
    assert all(torch.equal(again[name], begun[name]) for name in begun)
    assert not any(x.any() for name, x in again.items() if name.endswith("b_OR"))


def test_what_does_not_fit_is_refused_in_one_line(runs, model, tmp_path_factory):
    def refused(run, *words):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            begun_from(run, model, *words)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    assert "down_proj" in refused(runs["frozen"], "adapter.layers=[1]")
    assert "down_proj" in refused(runs["frozen"], "adapter.taps=3")
    other = tiny_pretrained(tmp_path_factory.mktemp("other"))
    assert refused(runs["frozen"], f"model.name={other}").startswith(f"base.path={runs['frozen']}: ")
    file = runs["updates"] / "checkpoints" / "task-0002" / "slow.safetensors"
    assert f"base.path={file}: " in refused(file)
    each = run_of(model, tmp_path_factory.mktemp("each") / "run", *QUICK, "task=curriculum", "adapter=none", *UPDATES,
                  "strategy.per=task")  # fmt: skip
    assert "strategy.per=task" in refused(each)
    # The head shares its matrix with the embedding.
    head = run_of(model, tmp_path_factory.mktemp("head") / "run", *QUICK, "task=curriculum", "adapter=none", *UPDATES,
                  "strategy.layers=[lm_head]")  # fmt: skip
    assert "strategy.layers" in refused(head)


def test_rows_that_grow_go_with_no_state_of_a_row_and_no_memory(model):
    for words in (["strategy=replay"], ["adapter.reset=never", "adapter.carry=lane"]):
        assert "rows of one length" in refusal_of(f"model.name={model}", *CONVERT, "optimizer.only=null", *words)
