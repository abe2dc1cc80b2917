"""ttt-bench: what it counts, by hand; every benchmark at its smallest; and refusals."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest
import torch
from pretrained_runs import tiny_pretrained

from ttt.cli import bench
from ttt.cli.benches import (
    adapters,
    coverage,
    data,
    decode,
    evaluation,
    harness,
    kernels,
    pretrained,
    sampling,
    strategies,
)
from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.meter import cost
from ttt.cli.benches.timing import paired, ratio
from ttt.learner import Reader
from ttt.prompts.rollouts import sample_answers


def test_operations_of_products_by_hand():
    a, b, c = torch.zeros(2, 3, 4), torch.zeros(2, 4, 5), torch.zeros(2, 3, 5)
    assert cost(lambda: torch.bmm(a, b)).flops == 2 * 2 * 3 * 4 * 5
    assert cost(lambda: c.baddbmm_(a, b)).flops == 2 * 2 * 3 * 4 * 5
    assert cost(lambda: torch.baddbmm(c, a, b)).flops == 2 * 2 * 3 * 4 * 5


def test_bytes_by_hand():
    """Ten sums in a row: each reads one vector and writes one, and two are alive at a time."""
    x = torch.zeros(1000)

    def chain():
        y = x
        for _ in range(10):
            y = y + 1

    counted = cost(chain)
    assert counted.touched == 10 * 2 * 4000
    assert counted.peak == 2 * 4000


def test_ratios_are_taken_round_by_round():
    assert ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == (1.0, 2.0, 3.0)


def test_a_study_of_the_whole_population_holds_the_truth(monkeypatch):
    """With every language in every run, only seeds, bases and noise are left, around the truth."""
    monkeypatch.setattr(coverage, "TASKS", coverage.LANGUAGES)
    rng = np.random.default_rng(0)
    population = coverage.draw_population(rng)
    runs = coverage.draw_study(population, coverage.Design(40, 2), rng)
    forgotten, gained = np.mean([run.value() for run in runs], axis=0)
    assert gained == pytest.approx(population.truths["gained"], abs=0.06)
    assert forgotten / gained == pytest.approx(population.truths["forgotten / gained"], abs=0.02)
    for metric, truth in population.truths.items():
        assert all(x.low < truth < x.high for x in coverage.intervals(runs, metric).values())


def test_rounds_alternate_between_the_sides_after_a_first_call_of_each():
    calls = []
    seconds = paired({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2)
    assert "".join(calls) == "ab" + "ab" + "ba"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_the_floor_of_decoding_is_the_same_model():
    learner = decode.decoded_learner("none")
    tokens_BT = torch.randint(256, (3, 70), generator=torch.Generator().manual_seed(0))
    reader, floor = Reader(learner), decode.PlainDecoder(learner.model, lanes=3)
    for t in range(tokens_BT.shape[1]):
        token_B1 = tokens_BT[:, t : t + 1]
        torch.testing.assert_close(floor.read(token_B1), reader.read(token_B1)[:, 0])


def test_the_floor_of_sampling_samples_the_same():
    model = assembly_of("experiment=fst", "base=none").learner.model.eval()
    tokens_UT = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 0, 0, 5, 6]])
    bare = sampling.BareSampler(model, contexts=2, group=3, slots=6 + 5)
    torch.manual_seed(0)
    expected = bare(tokens_UT, length=5)
    torch.manual_seed(0)
    # The two contexts stand the other way round in the order of their tokens.
    predict = partial(sampling.predict_plainly, model)
    got = sample_answers(predict, tokens_UT.repeat_interleave(3, 0), length=5, temperature=1.0)
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got[1], expected[1])


@pytest.fixture
def ttt_bench(monkeypatch, capsys):
    """Type a command in this process and return its exit code and the words of its output."""

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["ttt-bench", *words])
        threads = torch.get_num_threads()
        try:
            bench.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            torch.set_num_threads(threads)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return typed


def test_every_benchmark_runs(ttt_bench, monkeypatch):
    monkeypatch.setattr(harness, "STEPS", 1)
    monkeypatch.setattr(kernels, "SIZES", (kernels.Size(1, 32, 8, 16, 8),))
    monkeypatch.setattr(adapters, "LENGTHS", (64, 128))
    monkeypatch.setattr(adapters, "STEP_LENGTH", 64)
    monkeypatch.setattr(strategies, "TASKS", 2)
    monkeypatch.setattr(coverage, "TRIALS", 2)
    monkeypatch.setattr(coverage, "DRAWS", 10)
    monkeypatch.setattr(decode, "DECODED", 2)
    monkeypatch.setattr(evaluation, "TASKS", 1)
    monkeypatch.setattr(sampling, "BATCHES", ((2, 2),))
    monkeypatch.setattr(sampling, "ANSWERS", (3,))
    monkeypatch.setattr(data, "STREAMS", (("split-sequence", "recall"),))
    for words, expected in {
        ("harness",): ("bare", "1.000", "harness"),
        ("kernels", "--type", "float32"): ("plain", "dual", "x the form picked"),
        ("adapters", "--adapter", "soft_prompt,mlp_fast"): ("adapter=soft_prompt:", "mlp_fast ", "49152"),
        ("strategies", "--strategy", "ewc"): ("ewc", "growth"),
        ("coverage",): ("10 x 1", "forgotten / gained"),
        ("sampling",): ("contexts", "over bare"),
        ("decode",): ("mlp_fast", "over floor", "over none"),
        ("evaluation",): ("mlp_fast", "over bare"),
        ("data",): ("split-sequence", "recall", "share %"),
    }.items():
        code, output = ttt_bench(*words, "--rounds", "1")
        assert code == 0, output
        for word in expected:
            assert word in output, words


def test_a_pretrained_model_is_timed_beside_transformers(ttt_bench, monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "LENGTH", 128)
    monkeypatch.setattr(pretrained, "DECODED", 2)
    typed = ("--rounds", "1", "--type", "float32", "--model", str(tiny_pretrained(tmp_path)))
    code, output = ttt_bench("pretrained", *typed)
    assert code == 0, output
    for what in ("prefill", "training step", "decoding"):
        for side in ("transformers", *pretrained.SIDES):
            assert any(what in line and side in line for line in output.splitlines()), (what, side)


@pytest.mark.parametrize(
    ("words", "named", "hint"),
    [
        (["kernel"], "kernel: unknown", "kernels"),
        (["kernels", "--type", "float23"], "--type float23", "float32?"),
        (["adapters", "--adapter", "mlpfast"], "--adapter mlpfast", "mlp_fast?"),
        (["harness", "--rounds", "0"], "--rounds 0", "1"),
    ],
)
def test_wrong_words_are_named(ttt_bench, words, named, hint):
    code, output = ttt_bench(*words)
    assert code == 2
    refusal = output.splitlines()[-1]
    assert named in refusal
    assert hint in refusal
