"""The nouns of a stream, which everything in tasks/ and in your own modules speaks."""

from ttt.stream.layout import Layout, Prompt
from ttt.stream.mixture import Dealt, gather, mixture, rows_of, share
from ttt.stream.samples import SAMPLES, sample, samples
from ttt.stream.stream import IGNORE, Batch, Ints, Phase, Source, Stream, Task, spread, whole_rows

__all__ = [
    "IGNORE",
    "SAMPLES",
    "Batch",
    "Dealt",
    "Ints",
    "Layout",
    "Phase",
    "Prompt",
    "Source",
    "Stream",
    "Task",
    "gather",
    "mixture",
    "rows_of",
    "sample",
    "samples",
    "share",
    "spread",
    "whole_rows",
]
