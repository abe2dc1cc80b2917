"""`ttt-probe documents`: losses of documents by hand, pairs, and a command that goes on where it stopped."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
from families import saved_family

from ttt.cli import probe
from ttt.probes.documents import PIECES, DocumentLosses, gain, losses_of, with_foreign_beginnings
from ttt.stream import IGNORE, Batch


def test_losses_by_hand():
    """Two rows of 32 tokens, of which the first 16 cost 1 bit and the others 3; one is not scored."""
    bits_RT = torch.tensor([[1.0] * 16 + [3.0] * 16] * 2, dtype=torch.float64)
    targets_RT = torch.ones(2, 32, dtype=torch.long)
    targets_RT[0, 31] = IGNORE
    hits_RT = torch.ones(2, 32, dtype=torch.bool)
    hits_RT[0, 31], hits_RT[1, 5] = False, False
    losses = losses_of(bits_RT, hits_RT, targets_RT, token_bytes=np.array([9, 4]))
    assert losses.late == 3.0
    assert losses.whole == pytest.approx((32 * 1 + 31 * 3) / 63)
    assert losses.pieces == [1.0] * 8 + [3.0] * 8
    assert losses.late_per_byte == 3.0 / 4
    # The miss of the first row is not scored, that of the second is.
    assert losses.exact == 0.5
    assert math.isnan(losses_of(bits_RT, hits_RT, targets_RT, token_bytes=None).late_per_byte)


def test_gains_are_paired_by_document():
    def document(late):
        return DocumentLosses(late, late, [late] * PIECES, math.nan, 0.0)

    numbers = gain([document(5.0), document(1.0)], [document(4.9), document(0.8)])
    assert numbers["gain"] == pytest.approx(0.15)
    # Half the width of a t-interval over two documents that differ by 0.1: 12.706 sd / sqrt(2).
    assert numbers["half"] == pytest.approx(12.706 * 0.05, rel=1e-3)
    assert numbers["better"] == 2
    assert gain([document(1.0)], [document(math.nan)])["gain"] == -math.inf


def test_the_control_begins_with_another_document():
    documents = [Batch(*(torch.full((1, 6), value) for value in (i, 10 + i, 0))) for i in range(3)]
    swapped = with_foreign_beginnings(documents)
    assert [x.tokens_BT[0].tolist() for x in swapped] == [[(i + 1) % 3] * 3 + [i] * 3 for i in range(3)]
    assert [x.targets_BT[0].tolist() for x in swapped] == [[IGNORE] * 3 + [10 + i] * 3 for i in range(3)]
    assert documents[0].tokens_BT.unique().tolist() == [0]


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ttt-probe", "documents", *words])
        code = 0
        try:
            probe.main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def test_the_command_measures_each_setting_once(typed, tmp_path):
    """Settings of step 0.1 and 0.2, each read with writes off and on; again: nothing is read anew."""
    model = saved_family("llama", tmp_path)
    words = [
        "model=hf", f"model.name={model}", "source=prose", "source.eval_share=0.5", "task.num_tasks=2",
        "task.held_out=4", "task.seq_len=32", "task.eval_sequences=1", "adapter=mlp_fast", "adapter.chunk=8",
        "adapter.step=0.1,0.2", f"cache_dir={tmp_path}", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    code, out, _ = typed(*words)
    assert code == 0
    assert "adapter.step=0.1" in out
    journal = tmp_path / "out" / "documents.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines() if line]
    assert [row["setting"] for row in rows] == ["adapter.step=0.1", "adapter.step=0.2"]
    assert rows[0]["late_off"] == rows[1]["late_off"]
    assert rows[0]["late_on"] != rows[1]["late_on"]
    assert all(len(row["off"]) == row["documents"] == 2 for row in rows)
    # The control is another measurement of the same setting.
    assert typed(*words, "--foreign")[0] == 0
    control = json.loads((tmp_path / "out" / "probe.json").read_text())["rows"]
    assert control[0]["foreign"]
    assert control[0]["late_off"] != rows[0]["late_off"]
    # A killed process leaves half a line; the rest counts.
    journal.write_text("\n" + json.dumps(rows[0]) + '\n{"overr')
    assert typed(*words)[0] == 0
    assert json.loads(journal.read_text().splitlines()[-1]) == rows[1]
    assert json.loads((tmp_path / "out" / "probe.json").read_text())["rows"] == rows


def test_wrong_words(typed):
    for words, part in (
        ([], "overrides"),
        (["adapter=none"], "adapter=none"),
        (["adapter.stp=1"], "adapter.stp"),
        (["somewhere"], "somewhere"),
    ):
        code, _, err = typed(*words)
        assert code == 2
        assert part in err
        assert err.count("\n") == 1
