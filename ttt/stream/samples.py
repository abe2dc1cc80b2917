"""What the sequences of a stream look like to a person: shown by --preview, kept beside a run's results."""

from __future__ import annotations

import numpy as np

from ttt.stream.stream import IGNORE, Stream, Task

# Tasks that get a sample, tokens and lines of one.
SAMPLES, TOKENS, LINES = 3, 400, 24


def samples(stream: Stream) -> list[dict[str, str]]:
    """The first tasks with a sample each, as samples.json has them: `[{"task": name, "text": sample}, ...]`."""
    return [{"task": task.name, "text": sample(stream, task)} for task in stream.tasks[:SAMPLES]]


def sample(stream: Stream, task: Task) -> str:
    """The first sequence of the eval part: whole examples, and for running text the end of the sequence too.

    The end is where recall is asked for.
    """
    batch = task.evaluation()
    tokens, targets = batch.tokens_BT[0].numpy(), batch.targets_BT[0].numpy()
    if tokens.ndim == 2:
        # Vectors: as many of them as fit a line.
        first = batch.tokens_BT[:4].flatten(0, 1).numpy()
        return stream.show(first)
    last = targets[-1:] if targets[-1] != IGNORE else targets[:0]
    lines = stream.show(np.concatenate([tokens, last])[:TOKENS]).splitlines()
    return "\n".join(lines[:LINES])
