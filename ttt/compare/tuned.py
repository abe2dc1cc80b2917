"""Runs that reported with chosen hyper-parameters, apart from those on which these were chosen.

A sweep with `sweep.tune_on` writes tuning.json into the folders of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ttt.compare.runs import Run
from ttt.config.messages import show
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import read_object


def reporting(runs: Sequence[Run]) -> list[Run]:
    """The runs without those that only served to choose, unless all of them did."""
    roles = [tuning_of(run).get("role") for run in runs]
    if "reporting" not in roles:
        return list(runs)
    return [run for run, role in zip(runs, roles, strict=True) if role != "tuning"]


def tuning_lines(runs: Sequence[Run]) -> list[str]:
    """How hyper-parameters were chosen: a line for each rule, with what it chose."""
    chosen: dict[str, set[str]] = {}
    for record in map(tuning_of, runs):
        if record.get("role") == "reporting":
            chosen.setdefault(_rule(record), set()).add(" ".join(record["chosen"]))
    return [f"{rule}: {', '.join(sorted(words))}" for rule, words in chosen.items()]


def _rule(record: Mapping[str, Any]) -> str:
    seeds = ", ".join(f"{key}={','.join(map(show, values))}" for key, values in record["on"].items())
    beyond = "" if record["continual_rule"] else ", which is not known from the current task alone"
    return f"runs with {seeds} are left out; on them, by {record['objective']}{beyond}, was chosen for each method"


def tuning_of(run: Run) -> Mapping[str, Any]:
    """What the run's tuning.json says; empty where no sweep chose by it or for it."""
    file = RunFolder(run.folder).tuning
    content = read_object(file, {}) if file.is_file() else {}
    return content
