"""Sequences of a stream as text: shown by --preview and kept beside a run's results."""

from __future__ import annotations

import numpy as np

from ttt.stream.batch import IGNORE
from ttt.stream.stream import Stream, Task

# How many tasks get a sample, and at most how many tokens and lines a sample has.
SAMPLES, TOKENS, LINES = 3, 400, 24
# Vectors that fit beside each other on a screen.
VECTORS = 4


def sample_texts(stream: Stream) -> list[dict[str, str]]:
    """Return samples of the first tasks, as in samples.json: [{"task": ..., "text": ...}]."""
    return [{"task": task.name, "text": sample_text(stream, task)} for task in stream.tasks[:SAMPLES]]


def sample_text(stream: Stream, task: Task) -> str:
    """Return the first sequence of a task's eval part as text.

    The last target is shown too: a recalled value may stand there and nowhere among the tokens.
    """
    batch = task.evaluation()
    is_text = batch.segment_BT[0] >= 0
    tokens, targets = batch.tokens_BT[0][is_text].numpy(), batch.targets_BT[0].numpy()
    if tokens.ndim == 2:
        return stream.show(batch.tokens_BT[:VECTORS].flatten(0, 1).numpy())
    last = targets[-1:] if targets[-1] != IGNORE else targets[:0]
    lines = stream.show(np.concatenate([tokens, last])[:TOKENS]).splitlines()
    return "\n".join(lines[:LINES])
