"""What a run of `objective=reward` went through on its last task, evaluation by evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ttt.compare.runs import Run
from ttt.storage import journal
from ttt.storage.run_folder import RunFolder

Values = NDArray[np.float64]
# What a run spends, and the terms of its reports that add up to it. Steps are counted elsewhere.
Unit = Literal["steps", "rollouts", "tokens", "seconds"]
TERMS: dict[Unit, tuple[str, ...]] = {
    "rollouts": ("rollouts", "fast_rollouts"),
    "tokens": ("slow_tokens_read", "slow_tokens_generated", "fast_tokens_read", "fast_tokens_generated"),
    "seconds": ("slow_seconds", "fast_seconds"),
}
# Adapters whose fast weights are prompts.
PROMPTED = ("prompt_pool", "soft_prompt")


@dataclass(frozen=True)
class Series:
    """Curves of one run on its last task: T evaluations, in the order of their steps."""

    run: Run

    @property
    def main_mode(self) -> str:
        """The mode in which the run uses what it learned: with its prompt, if it has one."""
        return "carried" if self.run.config["adapter.name"] in PROMPTED else "slow"

    @property
    def task(self) -> int:
        return len(self.run.results.learned_at) - 1

    @cached_property
    def _evaluations(self) -> list[dict[str, Any]]:
        """The rows of R and the points inside tasks that measured the last task."""
        results = self.run.results
        evaluations: list[Any] = [*results.rows, *results.points]
        measured = [evaluation for evaluation in evaluations if self.task in evaluation["columns"]]
        return sorted(measured, key=lambda evaluation: evaluation["step"])

    def values(self, mode: str, quantity: str) -> Values:
        """Return a quantity [T] in a mode, such as the distance from the base (kl)."""
        # Thinned rows hold fewer columns: the place of a task differs between evaluations.
        columns = [evaluation["columns"].index(self.task) for evaluation in self._evaluations]
        scores = [evaluation["scores"][mode] for evaluation in self._evaluations]
        # Not every run measures every distance from the base.
        return np.array([
            score[quantity][column] if quantity in score else math.nan
            for score, column in zip(scores, columns, strict=True)
        ])  # fmt: skip

    @property
    def steps(self) -> Values:
        """Optimizer steps [T] since the stream began."""
        return np.array([evaluation["step"] for evaluation in self._evaluations], dtype=np.float64)

    @property
    def success(self) -> Values:
        """The success rate [T] in the main mode."""
        return self.values(self.main_mode, "success")

    @cached_property
    def _reports(self) -> list[dict[str, Any]]:
        events = journal.read(RunFolder(self.run.folder).metrics)
        return [event for event in events if event["event"] == "trained"]

    def spent(self, unit: Unit, step: float) -> float:
        """Return what was spent by `step`, by slow steps and the search together.

        Between two reports it grows linearly. NaN where the run did not count it.
        """
        if unit == "steps":
            return step
        # A stream begins with nothing spent, before its first report.
        steps = [0.0, *(event["step"] for event in self._reports)]
        sums = [0.0, *(sum(event["terms"].get(term, math.nan) for term in TERMS[unit]) for event in self._reports)]
        return float(np.interp(step, steps, sums))

    def last_report(self, term: str) -> float:
        """Return what training reported last under the name `term`; NaN if it did not."""
        return float(self._reports[-1]["terms"].get(term, math.nan))


def time_to_level(time_T: Values, value_T: Values, level: float) -> float:
    """Return when `value` first reaches `level`, interpolated linearly; inf if it never does."""
    above = np.flatnonzero(value_T >= level)
    if not len(above):
        return math.inf
    i = int(above[0])
    # Reached at the first evaluation: there is nothing before it to interpolate with.
    if i == 0:
        return float(time_T[0])
    low, high = value_T[i - 1], value_T[i]
    return float(time_T[i - 1] + (time_T[i] - time_T[i - 1]) * (level - low) / (high - low))


def value_at_level(value_T: Values, other_T: Values, level: float) -> float:
    """Return `other` at the moment when `value` first reaches `level`; NaN if it never does."""
    place = time_to_level(np.arange(len(value_T), dtype=np.float64), value_T, level)
    return float(np.interp(place, np.arange(len(other_T)), other_T)) if math.isfinite(place) else math.nan
