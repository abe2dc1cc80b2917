"""The nouns of a stream, in which everything in tasks/ and in your own modules is written."""

from ttt.stream.batch import IGNORE, Batch, Ints, spread, whole_rows
from ttt.stream.known import Items, KnownSets, Textual
from ttt.stream.layout import Layout, Prompt
from ttt.stream.mixture import Dealt, batch_rows, mix_rows, mixture, share
from ttt.stream.samples import SAMPLES, sample_text, sample_texts
from ttt.stream.stream import HasAnswers, Phase, Source, Stream, Tagged, Task

__all__ = [
    "IGNORE",
    "SAMPLES",
    "Batch",
    "Dealt",
    "HasAnswers",
    "Ints",
    "Items",
    "KnownSets",
    "Layout",
    "Phase",
    "Prompt",
    "Source",
    "Stream",
    "Tagged",
    "Task",
    "Textual",
    "batch_rows",
    "mix_rows",
    "mixture",
    "sample_text",
    "sample_texts",
    "share",
    "spread",
    "whole_rows",
]
