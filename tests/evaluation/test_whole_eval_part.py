"""A whole eval part, whose last row is padded, scores what its rows score one by one, in each mode."""

from __future__ import annotations

import pytest
from assembling import assembled
from harness import SMALL

from ttt.evaluation.evaluate import evaluate
from ttt.stream import IGNORE, Batch

TEXT = (
    "source=tables",
    "task.num_tasks=1",
    "task.eval_sequences=all",
    "task.seq_len=48",
    "base=none",
    "task.held_out=1",
)


def test_padding_is_neither_scored_nor_written():
    words = [word for word in SMALL if word.split("=")[0] not in {w.split("=")[0] for w in TEXT}]
    assembly = assembled(*words, *TEXT, "adapter=mlp_fast", "adapter.chunk=8", "adapter.reset=task")
    engine = assembly.engine(assembly.settings.fabric(), None)
    batch = assembly.stream.tasks[0].evaluation()
    # The last rows of the part, the very last of which is padded.
    batch = batch.rows(len(batch.tokens_BT) - 3, len(batch.tokens_BT))
    counts = (batch.targets_BT != IGNORE).sum(1).tolist()
    assert counts[0] == 48
    assert counts[-1] < 48
    together = evaluate(engine, [batch], recipe=assembly.recipe)
    rows = [Batch(*(x[i : i + 1, :count] for x in batch[:3])) for i, count in enumerate(counts)]
    alone = evaluate(engine, rows, recipe=assembly.recipe)
    assert set(together) == {"slow", "fast", "carried"}
    for mode, scores in together.items():
        losses = alone[mode]["loss"]
        expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
        assert scores["loss"][0] == pytest.approx(expected, rel=1e-5)
