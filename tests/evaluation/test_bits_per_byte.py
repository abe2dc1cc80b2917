"""The loss per byte: what it counts, where it is measured, and that it compares tokenizers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from assembling import assembled, without
from harness import SMALL, only_run, run_here
from learning import engine_of

from ttt.evaluation import evaluate as evaluation
from ttt.evaluation.evaluate import evaluate, evaluate_along, rows_at_once
from ttt.evaluation.tally import bits_and_hits, tally

PROSE = (*without(SMALL, "source", "task.held_out", "task.num_tasks"), "source=prose", "task.num_tasks=2", "base=none")
BPE = (*PROSE, "adapter=none", "source.tokenizer=bpe-300")


def scores_of(assembly):
    batches = [task.evaluation() for task in assembly.stream.tasks]
    scores = evaluate(engine_of(assembly), batches, recipe=assembly.recipe, token_bytes=assembly.stream.token_bytes)
    return batches, scores["slow"]


def test_a_small_case_by_hand():
    """Four tokens of 2, 3, 0 and 4 bytes; the third is special, the last is not scored."""
    nats, scored = torch.tensor([[1.0, 2.0, 3.0, 9.0]]) * math.log(2), torch.tensor([[True, True, True, False]])
    sums = tally(nats, scored, scored, torch.tensor([[2, 3, 0, 4]]))
    values = bits_and_hits(sums[None])
    assert values["bits_per_byte"] == pytest.approx([6 / 5])
    assert values["loss"] == pytest.approx([2.0])
    # Only the special token is scored in the second half: bits, but no byte.
    assert math.isnan(values["bits_per_byte_late"][0])
    assert values["loss_late"] == pytest.approx([3.0])
    assert "bits_per_byte" not in bits_and_hits(tally(nats, scored, scored)[None])


def test_nats_over_the_bytes_of_the_text():
    """A model that knows nothing needs log2(300) bits for each token, however long it is."""
    assembly = assembled(*BPE)
    for parameter in assembly.learner.model.parameters():
        torch.nn.init.zeros_(parameter)
    batches, scores = scores_of(assembly)
    for j, batch in enumerate(batches):
        for rows_BT, suffix in ((batch.targets_BT, ""), (batch.targets_BT[:, 8:], "_late")):
            text = "".join(assembly.source._coder.decode(row) for row in rows_BT.numpy())
            assert text.isascii()
            bits = rows_BT.numel() * math.log2(300)
            assert scores[f"bits_per_byte{suffix}"][j] == pytest.approx(bits / len(text))


def test_bytes_and_ciphers_have_no_loss_per_byte_of_their_own():
    plain = assembled(*PROSE, "adapter=none")
    assert plain.stream.token_bytes.tolist() == [1] * 256
    cipher = assembled(*BPE, "task=permuted-sequence", "task.num_tasks=2")
    assert cipher.stream.token_bytes is None
    for assembly in (plain, cipher, assembled(*SMALL, "base=none", "adapter=none")):
        assert not [name for name in scores_of(assembly)[1] if "byte" in name]


def test_a_profile_is_the_same_with_bytes():
    assembly = assembled(*PROSE, "source.tokenizer=bpe-300", "adapter=mlp_fast", "adapter.chunk=4")
    engine, batches = engine_of(assembly), [assembly.stream.tasks[0].evaluation()]
    (scores, pieces), (plain, without_bytes) = (
        evaluate_along(engine, batches, recipe=assembly.recipe, token_bytes=token_bytes)
        for token_bytes in (assembly.stream.token_bytes, None)
    )
    assert np.array_equal(pieces, without_bytes, equal_nan=True)
    assert {name: scores["fast"][name] for name in plain["fast"]} == plain["fast"]
    assert set(scores["fast"]) - set(plain["fast"]) == {"bits_per_byte", "bits_per_byte_late"}


@pytest.mark.parametrize(("vocabulary", "tokens"), [(256, 8192), (8192, 8192), (49_152, 1365), (262_144, 256)])
def test_logits_bound_the_rows_that_are_read_at_once(vocabulary, tokens):
    model = torch.nn.Module()
    model.get_input_embeddings = lambda: torch.nn.Embedding(vocabulary, 1)
    batch = assembled(*SMALL, "base=none", "adapter=none").stream.tasks[0].evaluation()
    assert rows_at_once(model, batch) == tokens // 16
    assert rows_at_once(torch.nn.Linear(1, 1), batch) == 8192 // 16


def test_the_bound_changes_no_score(monkeypatch):
    assembly = assembled(*BPE, "task.eval_sequences=5")
    _, whole = scores_of(assembly)
    monkeypatch.setattr(evaluation, "LOGITS", 1)
    _, row_by_row = scores_of(assembly)
    for name, values in whole.items():
        assert row_by_row[name] == pytest.approx(values, nan_ok=True)


def test_a_run_reports_the_loss_per_byte(tmp_path):
    typed = [*without(BPE, "report", "base"), "base.steps=2", "base.warmup=1", "eval.anytime=2", "eval.savings=true"]
    done = run_here([*typed, f"output_dir={tmp_path}/outputs", "logger=csv"], tmp_path)
    assert done.code == 0, done.err
    assert "Loss per byte (bits per byte)" in done.out
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    scores = results["rows"][-1]["scores"]["slow"]
    assert results["metrics"]["slow/bits_per_byte/avg_final"] == pytest.approx(np.mean(scores["bits_per_byte"]))
    for where in (results["rows"][0]["base"], results["anytime"]["values"], results["relearned"][0]["scores"]):
        assert {"bits_per_byte", "bits_per_byte_late"} < set(where["slow"])
    assert "Loss per byte" in (only_run(tmp_path) / "report.html").read_text()
