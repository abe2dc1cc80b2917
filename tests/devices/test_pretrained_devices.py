"""Tiny pretrained models of each family on two gloo processes do what they do on one."""

from __future__ import annotations

import pytest
import torch
from assembling import assembled, config_of
from families import FAMILIES, saved_family
from pretrained_runs import tiny_pretrained
from sharing import learn, together

from ttt.devices.shards import give_memory

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("pretrained devices")

STEPS = 3
RUN = (
    "model=hf", "source=recall", "task.num_tasks=2", "task.held_out=10", "task.seq_len=16", "task.batch_size=4",
    "task.eval_sequences=3", "adapter=mlp_fast", "adapter.chunk=4", "trainer.threads=1", "trainer.precision=32-true",
    "trainer.accelerator=cpu", "logger=none", "report=false",
)  # fmt: skip
# Unlike Adam, SGD shows the size of every gradient.
SGD = ("optimizer=sgd", "optimizer.lr=0.1", "optimizer.clip=1.0")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def config(family, models, *words):
    return config_of(*RUN, *SGD, f"model.name={saved_family(family, models)}", *words)


@pytest.fixture(scope="module")
def shared(models):
    jobs = {
        (family, kind): ("learn", {"config": config(family, models, f"trainer={kind}"), "steps": STEPS})
        for family in FAMILIES
        for kind in ("ddp", "fsdp")
    }
    by_process = together(list(jobs.values()), models / "returned")
    return dict(zip(jobs, zip(*by_process, strict=True), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_two_devices_learn_and_measure_what_one_does(shared, family, models):
    alone = learn(config(family, models), STEPS)
    for kind in ("ddp", "fsdp"):
        for process in shared[family, kind]:
            close = {"atol": 1e-4, "rtol": 1e-4}
            torch.testing.assert_close(torch.tensor(process["losses"]), torch.tensor(alone["losses"]), **close)
            torch.testing.assert_close(process["fast"], alone["fast"], **close)
            torch.testing.assert_close(process["slow"], alone["slow"], **close)


# Of these, the files hold the tensors of the model one by one.
@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "tied"])
def test_published_weights_are_read_in_shares(family, models):
    """Weights, buffers and what an adapter draws are those of a model that was read whole."""
    path = tiny_pretrained(models / "tied") if family == "tied" else saved_family(family, models)
    words = (*RUN, f"model.name={path}")
    whole = assembled(*words).learner.model
    chance = torch.get_rng_state()
    learner = assembled(*words, "trainer=fsdp", "trainer.devices=2").learner
    assert learner.model.get_input_embeddings().weight.is_meta
    give_memory(learner, torch.device("cpu"))
    learner.deferred.fill(learner.model)
    assert torch.equal(chance, torch.get_rng_state())
    tensors = dict((*learner.model.named_parameters(), *learner.model.named_buffers()))
    for name, tensor in (*whole.named_parameters(), *whole.named_buffers()):
        assert torch.equal(tensor, tensors[name]), name
