"""What a run of `objective=reward` went through on its last task, evaluation by evaluation.

steps, rollouts      spent since the stream began; rollouts count those of the fast channel too
success              under the run's own prompt: mode carried with adapters that have prompts, else slow
of(MODE, QUANTITY)   whatever else was measured of it, as the distance from the base behind a mode's prompt (kl)
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttt.compare.runs import Run

Values = NDArray[np.float64]
# Adapters whose fast weights are prompts.
PROMPTED = ("prompt_pool", "soft_prompt")


@dataclass(frozen=True)
class Series:
    run: Run

    @property
    def own(self) -> str:
        """The mode in which the run does what it learned."""
        return "carried" if self.run.config["adapter.name"] in PROMPTED else "slow"

    @cached_property
    def _looks(self) -> list[dict[str, Any]]:
        """Rows and points that measured the last task."""
        results = self.run.results
        found: list[Any] = [*results.rows, *results.points]
        return sorted((one for one in found if self.task in one["columns"]), key=lambda one: one["step"])

    @property
    def task(self) -> int:
        return len(self.run.results.learned_at) - 1

    def of(self, mode: str, quantity: str) -> Values:
        places = [one["columns"].index(self.task) for one in self._looks]
        found = zip(self._looks, places, strict=True)
        return np.array([one["scores"][mode][quantity][place] for one, place in found])

    @property
    def steps(self) -> Values:
        return np.array([one["step"] for one in self._looks], dtype=np.float64)

    @property
    def success(self) -> Values:
        return self.of(self.own, "success")

    @cached_property
    def _spent(self) -> tuple[list[float], list[float]]:
        """Steps, and all rollouts until then."""
        steps, rollouts = [0.0], [0.0]
        for line in (self.run.folder / "metrics.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "trained":
                steps.append(event["step"])
                rollouts.append(event["terms"]["rollouts"] + event["terms"]["fast_rollouts"])
        return steps, rollouts

    def rollouts(self, step: float) -> float:
        """Between reports on a straight line."""
        return float(np.interp(step, *self._spent))

    def last(self, term: str) -> float:
        """What training reported last under this name."""
        lines = (self.run.folder / "metrics.jsonl").read_text().splitlines()
        events = [event for event in map(json.loads, lines) if event["event"] == "trained"]
        return float(events[-1]["terms"].get(term, math.nan))


def reached(time_T: Values, value_T: Values, level: float) -> float:
    """When `level` is first reached, on the straight line between two evaluations; inf: never."""
    above = np.flatnonzero(value_T >= level)
    if not len(above):
        return math.inf
    i = int(above[0])
    if i == 0:
        return float(time_T[0])
    low, high = value_T[i - 1], value_T[i]
    return float(time_T[i - 1] + (time_T[i] - time_T[i - 1]) * (level - low) / (high - low))


def at_level(value_T: Values, other_T: Values, level: float) -> float:
    """`other` at the moment when `value` first reaches `level`; NaN: never."""
    place = reached(np.arange(len(value_T), dtype=np.float64), value_T, level)
    return float(np.interp(place, np.arange(len(other_T)), other_T)) if math.isfinite(place) else math.nan
