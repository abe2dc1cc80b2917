"""Running text for tests: made-up prose, and the parts of a source as tokens."""

from __future__ import annotations

import numpy as np

from ttt.tasks.corpora import Corpora

SYLLABLES = ("ba", "ne", "ti", "lo", "du", "ra", "me", "si", "ko", "tu", "the", "ing")
WORDS = [a + b for a in SYLLABLES for b in SYLLABLES]


def prose(words, *, seed=0):
    """Return made-up text with a line break after every tenth word."""
    chosen = np.random.default_rng(seed).choice(WORDS, words)
    return "\n".join(" ".join(chosen[i : i + 10]) for i in range(0, words, 10)) + "\n"


def parts_of(source):
    """Return the train part and the eval runs of each class, as tokens."""
    if isinstance(source, Corpora):
        return [pair for part in source.parts.values() for pair in parts_of(part)]
    trains = [source._tokens[a:b] for a, b in zip(source._start, source._end, strict=True)]
    runs = [[source._tokens[a:b] for a, b in zip(*pair, strict=True)] for pair in source._runs]
    return list(zip(trains, runs, strict=True))


def every_class(source):
    return np.arange(len(parts_of(source)))
