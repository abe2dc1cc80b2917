"""What a model writes behind an opening: the likeliest tokens, by a reading that changes nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from assembling import assembled, refusal_of
from harness import FAST, SMALL, TINY, only_run, run_here
from learning import engine_of
from pretrained_runs import QUICK, tiny_pretrained

from ttt.evaluation.generate import OPENING, continuations, greedy, opening
from ttt.learner import slow_hash
from ttt.run.samples import check_samples
from ttt.stream import Batch

FRESH = (*SMALL, "base=none")
TOKENS = 9


def naive(learner, opening_T, *, write):
    """The likeliest tokens, the whole sequence read anew for each."""
    tokens_BT = opening_T[None]
    for _ in range(TOKENS):
        batch = Batch(tokens_BT, tokens_BT, torch.zeros_like(tokens_BT))
        with torch.no_grad():
            logits_BTV, _ = learner(batch, learner.adapter.initial(), write=write)
        tokens_BT = torch.cat([tokens_BT, logits_BTV[:, -1:].argmax(-1)], dim=1)
    return tokens_BT[0, len(opening_T) :]


@pytest.mark.parametrize("write", [False, True])
def test_it_writes_what_reading_all_anew_would_give(write):
    assembly = assembled(*FRESH, *FAST)
    engine = engine_of(assembly)
    engine.learner.eval()
    # Steps of some size: the writes decide which token is the likeliest.
    for name, parameter in engine.learner.named_parameters():
        if "step" in name:
            parameter.data.fill_(2.0)
    opening_T = opening(assembly.stream.tasks[0].evaluation())
    assert len(opening_T) == 8
    written = greedy(engine, opening_T, tokens=TOKENS, write=write)
    assert written.tolist() == naive(engine.learner, opening_T, write=write).tolist()


def test_an_opening_has_no_padding_and_an_end():
    tokens_BT = torch.arange(400).view(2, 200)
    segment_BT = torch.zeros_like(tokens_BT)
    assert opening(Batch(tokens_BT, tokens_BT, segment_BT)).tolist() == list(range(OPENING))
    segment_BT[0, :190] = -1
    assert opening(Batch(tokens_BT, tokens_BT, segment_BT)).tolist() == list(range(190, 195))


def test_it_only_reads():
    assembly = assembled(*FRESH, *FAST, "adapter.reset=never")
    engine, learner = engine_of(assembly), assembly.learner
    before, fast = slow_hash(learner.model), {name: x.clone() for name, x in learner.fast.items()}
    states = torch.get_rng_state()
    written = continuations(engine, assembly.stream, [0, 2], recipe=assembly.recipe, tokens=3)
    assert [(each.task, each.mode) for each in written] == [(0, "slow"), (0, "fast"), (2, "slow"), (2, "fast")]
    assert slow_hash(learner.model) == before
    assert all(torch.equal(x, learner.fast[name]) for name, x in fast.items())
    assert torch.equal(torch.get_rng_state(), states)
    assert learner.training


def test_a_run_keeps_what_was_written_and_its_numbers_do_not_change(tmp_path):
    numbers = []
    for samples in (0, 4):
        folder = tmp_path / str(samples)
        folder.mkdir()
        outcome = run_here([*TINY, *FAST, f"eval.samples={samples}", "report=true"], folder)
        assert outcome.code == 0, outcome.err
        numbers.append(json.loads((only_run(folder) / "results.json").read_text())["rows"])
    assert numbers[0] == numbers[1]
    run = only_run(tmp_path / "4")
    lines = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    places = [(line["row"], line["task"]) for line in lines if line["mode"] == "fast"]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert len({line["opening"] for line in lines if line["task"] == 0}) == 1
    assert "What the model writes" in (run / "report.html").read_text()
    assert not (only_run(tmp_path / "0") / "samples.jsonl").exists()
    # Without samples a run keeps the name that it had before they existed.
    assert only_run(tmp_path / "0").name != run.name


def test_a_published_model_writes_its_tokens(tmp_path):
    words = (*QUICK, f"model.name={tiny_pretrained(tmp_path)}", "task.num_tasks=2", "base=none", *FAST)
    assembly = assembled(*words)
    written = continuations(engine_of(assembly), assembly.stream, [0], recipe=assembly.recipe, tokens=5)
    assert [each.mode for each in written] == ["slow", "fast"]
    assert all(each.opening and each.text for each in written)


@pytest.mark.parametrize("value", ["-1", "true", "1.5"])
def test_what_is_no_number_of_tokens_is_refused(value):
    assert refusal_of(*FRESH, *FAST, f"eval.samples={value}").startswith(f"eval.samples={value}: ")


@pytest.mark.parametrize(("vector_size", "is_cut", "word"), [(3, False, "vectors"), (None, True, "fsdp")])
def test_where_nothing_can_be_written_samples_are_refused(vector_size, is_cut, word):
    stream = SimpleNamespace(vector_size=vector_size)
    with pytest.raises(ValueError, match=f"eval.samples=2: .*{word}"):
        check_samples(2, stream=stream, learner=None, is_cut=is_cut)
