"""`ttt-probe context`: rows that are read in pieces cost what they cost at once, and what is printed."""

from __future__ import annotations

import json
import math

import commands
import pytest
import torch
import torch.nn.functional as F
from assembling import assembled
from commands import assert_refused
from harness import FAST, SMALL, TINY, Outcome, only_run, run_here
from pretrained_runs import QUICK, tiny_pretrained

from ttt.cli import probe
from ttt.probes.context import compared, probe_asked, probe_text, read_losses, seen, starts_of
from ttt.stream import IGNORE, Batch

# More than one piece.
LENGTH = 300
NEEDLE = ("source=needle", "source.kind=single-2", "base=none", "task.num_tasks=5", "trainer.threads=1")


def typed(*words) -> Outcome:
    return commands.typed(probe.main, "ttt-probe", "context", *words)


def rows_of(*, rows=3, length=LENGTH):
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(30, (rows, length + 1), generator=generator)
    targets_BT = tokens_BT[:, 1:].clone()
    targets_BT[:, ::3] = IGNORE
    return Batch(tokens_BT[:, :-1], targets_BT, torch.zeros_like(targets_BT))


def naive_bits(learner, batch, state, *, write):
    """Bits of each token, all rows read at once and as a whole."""
    with torch.no_grad():
        logits_BTV, _ = learner(batch, state, write=write)
    nats = F.cross_entropy(logits_BTV.flatten(0, 1), batch.targets_BT.flatten(), ignore_index=IGNORE, reduction="none")
    return (nats / math.log(2)).view_as(batch.targets_BT).masked_fill(batch.targets_BT == IGNORE, math.nan)


@pytest.mark.parametrize("window", [4, None])
@pytest.mark.parametrize("mode", ["slow", "fast", "carried"])
def test_pieces_cost_what_the_whole_costs(mode, window):
    learner = assembled(*SMALL, "base=none", *FAST, f"model.window={window or 'null'}").learner.eval()
    learner.fast = {name: torch.randn(1, *x.shape[1:]) * 0.1 for name, x in learner.adapter.initial().items()}
    batch = rows_of()
    state, write = starts_of(learner, has_stream=True)[mode]
    expected = naive_bits(learner, batch, state, write=write)
    for start in (0, 131):
        reading = read_losses(learner, batch, state, write=write, start=start)
        torch.testing.assert_close(reading.bits_RT.float(), expected[:, start:], atol=1e-4, rtol=1e-4, equal_nan=True)


def test_the_same_last_tokens_behind_longer_contexts():
    learner = assembled(*SMALL, "base=none", *FAST).learner.eval()
    batch = rows_of()
    starts = starts_of(learner, has_stream=False)
    assert list(starts) == ["slow", "fast"]
    tables = probe_text(learner, batch, starts, lengths=[40, LENGTH], block=20)
    for row in tables["block"]:
        tail = Batch(*(x[:, -row["length"] :] for x in batch[:3]))
        bits = {m: naive_bits(learner, tail, s, write=w)[:, -20:].nanmean(1) for m, (s, w) in starts.items()}
        assert row["slow"] == pytest.approx(float(bits["slow"].mean()), abs=1e-4)
        assert row["fast_gain"] == pytest.approx(float((bits["slow"] - bits["fast"]).mean()), abs=1e-4)
    assert [row["seen"] for row in tables["block"]] == ["outside", "outside"]
    whole = naive_bits(learner, batch, *starts["fast"][:1], write=True)
    first = tables["along"][0]
    assert first["fast"] == pytest.approx(float(whole[:, first["from"] : first["to"]].nanmean()), abs=1e-4)


def test_answers_are_read_once_and_written_once():
    learner = assembled(*SMALL, "base=none", *FAST).learner.eval()
    batch = rows_of(rows=2)
    batch.targets_BT[:, :-4] = IGNORE
    starts = starts_of(learner, has_stream=False)
    (row,) = probe_asked(learner, {"there": batch}, starts)
    bits = naive_bits(learner, batch, *starts["fast"][:1], write=True)
    # Writing the answers has not disturbed what they cost.
    assert row["fast"] == pytest.approx(float(bits.nanmean(1).mean()), abs=1e-4)
    assert row["fast_exact"] == row["slow_exact"] == 0


def test_gains_are_paired_by_row():
    numbers = compared({"slow": torch.tensor([3.0, 1.0, math.nan]), "fast": torch.tensor([2.0, 0.5, math.nan])})
    assert numbers["slow"] == 2
    assert numbers["fast_gain"] == 0.75
    # 12.706 sd / sqrt(2).
    assert numbers["fast_half"] == pytest.approx(12.706 * 0.25, rel=1e-3)


@pytest.mark.parametrize(
    ("window", "least", "most", "label"),
    [(None, 0, 9, "inside"), (8, 0, 8, "inside"), (8, 8, 20, "outside"), (8, 7, 20, "partly")],
)
def test_labels(window, least, most, label):
    assert seen(window, least, most) == label


def test_a_run_as_typed(tmp_path):
    assert run_here((*TINY, *FAST, "adapter.reset=never"), tmp_path).code == 0
    done = typed(only_run(tmp_path), "--lengths", "16,32,64", "--sequences", 2, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert [row["length"] for row in numbers["block"]] == [16, 32, 64]
    assert numbers["settings"]["modes"] == ["slow", "fast", "carried"]
    assert numbers["settings"]["block"] == 8
    assert all(row["carried"] > 0 for row in (*numbers["block"], *numbers["along"]))
    assert (tmp_path / "out" / "probe.svg").read_text().lstrip().startswith("<?xml")
    assert_refused(typed(only_run(tmp_path), "--block", 16, "--lengths", "16,32"), "--block 16")


def test_needles_as_typed(tmp_path):
    words = (*NEEDLE, "adapter=mlp_fast", f"cache_dir={tmp_path}", "--sequences", 2, "--lengths", "400,300")
    done = typed(*words, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "absent (control)" in done.out
    rows = json.loads((tmp_path / "out" / "probe.json").read_text())["asked"]
    assert [row["length"] for row in rows] == [300] * 6 + [400] * 6
    assert [row["seen"] for row in rows[:6]] == ["outside"] * 4 + ["partly", ""]
    assert all(0 <= row["fast_exact"] <= 1 for row in rows)
    assert_refused(typed(*words, "--block", 4), "--block 4", "source=needle")


def test_a_model_is_read_as_far_as_its_positions_go(tmp_path):
    model = tiny_pretrained(tmp_path / "model")
    words = [*QUICK, *NEEDLE[:2], f"model.name={model}", "adapter=none", "source.depths=1", "task.num_tasks=1"]
    words += [f"cache_dir={tmp_path}", "task.seq_len=300"]
    lengths = ("--lengths", "300,1100", "--sequences", 1)
    assert_refused(typed(*words, *lengths), "--lengths 1100", "1024 positions", "model.window=1024")
    done = typed(*words, "model.window=16", *lengths)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "context: "),
        (["source=languages", "--lengths", "12,x"], "12,x"),
        (["source=languages", "--length", "12"], "did you mean --lengths"),
        (["source=languages", "--sequences", "0"], "--sequences 0"),
        (["source=languages", "--places", "3"], "--places 3: does nothing in context"),
        (["source=languages", "--lengths", "100000"], "--lengths 100000: "),
        (["source=digits", "source.read_as=vectors", "model=mlp", "adapter=none", "base=none"], "vectors"),
        ([*NEEDLE, "adapter=none", "--lengths", "100"], "--lengths 100: too short"),
        (["task=reward-sequence", "source=rule-world", "objective=reward", "adapter=prompt_pool"], "prompts"),
        (["somewhere"], "somewhere"),
    ],
)
def test_wrong_words(words, part, tmp_path):
    assert_refused(typed(*words), part)
