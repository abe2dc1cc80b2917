"""Runs with different tokenizers side by side: in bits per byte, which bytes have too."""

from __future__ import annotations

import json

import pytest
import yaml
from comparisons import cells, refusal, write_run

PER_BYTE = "fast/bits_per_byte/avg_final"


def read_as(run, tokenizer, *, per_byte=None):
    """Change the tokenizer of a run, and add its loss per byte where it has one."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    source = {"name": "corpora", "parts": {part: {"tokenizer": tokenizer} for part in ("prose", "code")}}
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"source": source}))
    results = json.loads((run / "results.json").read_text())
    for row in results["rows"] if per_byte is not None else ():
        for quantities in (*row["scores"].values(), *row["base"].values()):
            quantities |= {"bits_per_byte": [per_byte], "bits_per_byte_late": [per_byte]}
    (run / "results.json").write_text(json.dumps(results))


@pytest.fixture
def mixed(tmp_path):
    """Two seeds over bytes, and two over tokens of a model, of other streams."""
    for seed in (0, 1):
        read_as(write_run(tmp_path / "bytes", seed=seed, lr=0.1, value=2.0 + seed), "bytes")
        model = write_run(tmp_path / "model", seed=seed, lr=0.1, value=6.0 + seed, fingerprint="b")
        read_as(model, "model", per_byte=1.0 + seed)
    return tmp_path


def test_bytes_have_their_loss_per_byte(mixed):
    means = {cell["source.parts.prose.tokenizer"]: cell["mean"] for cell in cells(mixed, "--metrics", PER_BYTE)}
    assert means == {"bytes": 2.5, "model": 1.5}
    # It is what a table shows unless something else is typed.
    assert {cell["column"].split("/")[1] for cell in cells(mixed)} == {"bits_per_byte"}
    key = "source.parts.prose.tokenizer"
    tasks = cells(mixed, "--per-task", "fast/bits_per_byte/final")
    assert sorted(cell["mean"] for cell in tasks) == [1.5, 2.5]
    assert {cell[key] for cell in cells(mixed, "--metrics", PER_BYTE, "--sort", PER_BYTE)} == {"bytes", "model"}


def test_runs_over_bytes_alone_keep_their_loss(mixed):
    assert {cell["column"].split("/")[1] for cell in cells(mixed / "bytes")} == {"loss"}
    assert "unknown" in refusal(mixed / "bytes", "--metrics", PER_BYTE)


def test_equal_tokenizers_on_different_streams_do_not_compare(mixed):
    read_as(write_run(mixed, seed=0, lr=0.2, value=1.0, fingerprint="c"), "model", per_byte=1.0)
    assert "seed 0 but saw different streams" in refusal(mixed)
