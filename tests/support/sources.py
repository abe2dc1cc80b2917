"""Sources for tests, built as a user would type them, and their labelled examples as arrays.

Shapes: N examples, L tokens of an example before its label.
"""

from __future__ import annotations

import functools

import numpy as np

from ttt.config.build import build
from ttt.run.compose import compose_run


@functools.cache
def _config(typed):
    return compose_run(typed)["source"]


def build_source(*typed, model_tokenizer=None, **changes):
    """Build a new source from overrides such as `source=mnist`, with some arguments changed.

    `model_tokenizer` returns the tokenizer.json of the model.
    """
    offered = {"model_tokenizer": model_tokenizer}
    return build(_config(typed) | changes, group="source", given={}, trusted=[], offered=offered)


@functools.cache
def shared_source(*typed):
    """Return a source that tests share: a source never changes."""
    return build_source(*typed)


def examples_of(batch, length):
    """Return the contents [N, L] and the labels [N] of a batch of tokens."""
    window = np.concatenate([batch.tokens_BT.numpy(), batch.targets_BT.numpy()[:, -1:]], axis=1)
    examples = window.reshape(-1, length + 1)
    return examples[:, :-1], examples[:, -1]


def table_of(source):
    """Return all examples of a source, content and label: [N, L + 1]."""
    return np.column_stack([source._contents, source._targets_N]).astype(np.int32)


def contents(source, parts):
    """Return the distinct contents of the examples in `parts`, as bytes."""
    return {row.tobytes() for row in table_of(source)[np.concatenate(parts), :-1]}
