"""Runs that read text through different tokenizers: their losses compare in bits per byte."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from ttt.compare.runs import Run
from ttt.results.results import Results
from ttt.results.scores import Scores

# Where a token is a byte, both are the same number.
OF_BYTES = {"bits_per_byte": "loss", "bits_per_byte_late": "loss_late"}


def tokenizers(run: Run) -> set[str]:
    """The tokenizers of a run's source or of its parts; empty where it reads no text."""
    return {str(v) for key, v in run.config.items() if key.startswith("source.") and key.endswith(".tokenizer")}


def in_bytes(runs: Sequence[Run]) -> Sequence[Run]:
    """Runs over bytes with a loss per byte too, if any run has one; the others as they are."""
    if not any("bits_per_byte" in run.results.quantities for run in runs):
        return runs
    return [replace(run, results=_in_bytes(run.results)) if tokenizers(run) == {"bytes"} else run for run in runs]


def differ_in_tokens(runs: Sequence[Run]) -> bool:
    """Do the runs have their loss per byte in common, but not their tokens?"""
    is_shared = all("bits_per_byte" in run.results.quantities for run in runs)
    return is_shared and len({frozenset(tokenizers(run)) for run in runs}) > 1


def _in_bytes(results: Results) -> Results:
    # The copy is shallow and gets new lists: the run's own results stay as they were read.
    twin = copy(results)
    twin.rows = [
        row | {"scores": _added(row["scores"]), "base": row["base"] and _added(row["base"])} for row in results.rows
    ]
    twin.points = [point | {"scores": _added(point["scores"])} for point in results.points]
    twin.relearned = [again | {"scores": _added(again["scores"])} for again in results.relearned]
    twin.references = {name: _added(scores) for name, scores in results.references.items()}
    return twin


def _added(scores: Scores) -> Scores:
    return {
        mode: values | {quantity: values[loss] for quantity, loss in OF_BYTES.items()}
        for mode, values in scores.items()
    }
