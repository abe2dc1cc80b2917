"""Logits only where something is scored: the losses, gradients and scores of the whole computation."""

from __future__ import annotations

import pytest
import torch
from assembling import assembled
from families import FAMILIES, VOCAB, saved_family
from learning import begin_task, engine_of
from pretrained_runs import QUICK, tiny_pretrained
from tiny_adapters import build_adapter, defaults

from ttt.evaluation.evaluate import evaluate, rows_at_once
from ttt.learner import Learner, Reader, cross_entropy, scored_logits
from ttt.models.hf import HfModel
from ttt.stream import IGNORE, Batch
from ttt.training.train import loss_of

# Products of fewer rows add up in another order.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
ROWS, LENGTH = 3, 24


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("families")


def learner_of(folder, adapter="none"):
    settings = {"revision": None, "dtype": "float32", "attention": "auto", "window": None, "cache_dir": str(folder)}
    model = HfModel(name=str(folder), vocab_size=VOCAB, seq_len=64, **settings)
    options = {"seq_len": 64} if "seq_len" in defaults(adapter) else {}
    return Learner(model, adapter=build_adapter(adapter, **options), optimizer=None).train()


def some_scored():
    """Answers of different lengths, a prompt without any, and padding at the end of a row."""
    tokens_BT = torch.randint(3, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    targets_BT, segment_BT = torch.full_like(tokens_BT, IGNORE), torch.zeros_like(tokens_BT)
    targets_BT[0, 4:7], targets_BT[2, 15:17] = tokens_BT[0, 5:8], tokens_BT[2, 16:18]
    segment_BT[2, 18:] = -1
    return Batch(tokens_BT, targets_BT, segment_BT)


def loss_and_gradients(learner, batch, *, scored):
    learner.zero_grad()
    logits, _ = learner(batch, learner.adapter.initial(), scored=scored)
    loss = cross_entropy(logits, batch, reduction="mean")
    loss.backward()
    return logits, loss, {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def assert_equal(learner, batch):
    whole, loss, gradients = loss_and_gradients(learner, batch, scored=False)
    some, same, others = loss_and_gradients(learner, batch, scored=True)
    assert whole.shape == (ROWS, LENGTH, VOCAB)
    assert some.shape == (5, VOCAB)
    torch.testing.assert_close(some, whole[batch.targets_BT != IGNORE], **CLOSE)
    torch.testing.assert_close(same, loss, **CLOSE)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_all_logits(family, models):
    assert_equal(learner_of(saved_family(family, models)), some_scored())


@pytest.mark.parametrize("adapter", ["mlp_fast", "delta_fast", "lact_fast"])
def test_with_fast_weights(adapter, models):
    assert_equal(learner_of(saved_family("llama", models), adapter), some_scored())


def test_with_recomputed_blocks_and_limited_outputs(models):
    learner, batch = learner_of(saved_family("qwen3", models)), some_scored()
    assert learner.model.recompute() == 3
    outputs_BV = torch.zeros(ROWS, VOCAB, dtype=torch.bool).index_fill_(1, batch.targets_BT[0, 4:7], value=True)
    outputs_BV[2] = True
    batch = batch._replace(outputs_BV=outputs_BV)
    assert_equal(learner, batch)
    whole, _ = learner(batch, {})
    some, _ = learner(batch, {}, scored=True)
    torch.testing.assert_close(scored_logits(some, batch), scored_logits(whole, batch), **CLOSE)


def test_a_head_with_low_rank_updates(models):
    """Tied weights, and a head that others have wrapped, as peft does."""

    class Updated(torch.nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head, self.down = head, torch.nn.Linear(32, 2, bias=False)
            self.up = torch.nn.Linear(2, VOCAB, bias=False)

        def forward(self, x):
            return self.head(x) + self.up(self.down(x))

    learner = learner_of(saved_family("gemma2", models))
    assert learner.model.lm.lm_head.weight is learner.model.get_input_embeddings().weight
    learner.model.lm.set_output_embeddings(Updated(learner.model.lm.lm_head))
    assert_equal(learner, some_scored())


@pytest.mark.parametrize("adapter", ["sgd_fast", "prompt_fast", "lora_fast"])
def test_adapters_that_look_at_logits_get_all_of_them(adapter, models):
    learner, batch = learner_of(saved_family("llama", models), adapter), some_scored()
    assert not learner.leaves_out
    some, _ = learner(batch, learner.adapter.initial(), scored=True)
    assert some.shape == (ROWS, LENGTH, VOCAB)


def test_nothing_changes_where_all_is_scored_or_nothing_is(models):
    learner, batch = learner_of(saved_family("llama", models)), some_scored()
    running = batch._replace(targets_BT=batch.tokens_BT)
    assert torch.equal(learner(running, {}, scored=True)[0], learner(running, {})[0])
    silent = batch._replace(targets_BT=torch.full_like(batch.targets_BT, IGNORE))
    assert learner(silent, {}, scored=True)[0].shape == (0, VOCAB)
    assert cross_entropy(learner(silent, {}, scored=True)[0], silent, reduction="sum") == 0


@torch.no_grad()
def test_a_reader_asks_for_the_last_position(models):
    learner = learner_of(saved_family("llama", models), "mlp_fast").eval()
    tokens_BT, whole, last = some_scored().tokens_BT, Reader(learner), Reader(learner)
    for piece_BT in tokens_BT.split((9, 1, 14), 1):
        torch.testing.assert_close(last.read(piece_BT, last=True), whole.read(piece_BT)[:, -1:], **CLOSE)


def test_the_bound_on_memory_counts_scored_tokens():
    model = torch.nn.Module()
    model.get_input_embeddings = lambda: torch.nn.Embedding(49_152, 1)
    wide = Batch(*(torch.zeros(100, 512, dtype=torch.long) for _ in range(3)))
    wide.targets_BT[:, 64:] = IGNORE
    assert rows_at_once(model, wide) == 2
    assert rows_at_once(model, wide, leaves_out=True) == 16


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return tiny_pretrained(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.mark.parametrize(("strategy", "dims"), [("naive", {2}), ("replay", {2}), ("lwf", {3}), ("distill", {3})])
def test_strategies_that_read_logits_ask_for_them(strategy, dims, tiny):
    """The shapes of what the head returns in training; evaluation never needs them all."""
    typed = ("source=needle", "source.depths=2", "task.num_tasks=1", "task.held_out=2", "task.seq_len=128", "base=none")
    assembly = assembled(*QUICK, f"model.name={tiny}", *typed, "adapter=mlp_fast", f"strategy={strategy}")
    engine, shapes = engine_of(assembly), []
    begin_task(engine, assembly, 0)
    engine.learner.model.get_output_embeddings().register_forward_hook(lambda *call: shapes.append(call[2].dim()))
    loss_of(engine.learner, assembly.recipe, assembly.stream.phases[0].batch(0), step=0).backward()
    assert set(shapes) == dims
    shapes.clear()
    evaluate(engine, [assembly.stream.tasks[0].evaluation()], recipe=assembly.recipe)
    assert set(shapes) == {2}
