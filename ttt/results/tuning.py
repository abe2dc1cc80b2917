"""How hyper-parameters are chosen: the rule of continual learning, what to look for, the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt.config.messages import suggest
from ttt.results.catalogue import better, names
from ttt.results.results import Results
from ttt.results.scores import ANSWERED, IN_BYTES, MODES, QUANTITIES, REWARDED, Scores

ALL = (*QUANTITIES, *IN_BYTES, *ANSWERED, *REWARDED)


def obeys_continual_rule(metric: str) -> bool:
    """Does a search for the best `mode/quantity/metric` use data of the current task only?

    A learner that meets tasks one after another can choose its hyper-parameters on the task at
    hand, never on earlier tasks (their data are gone) nor on later ones. `avg_learning`, the mean
    over tasks of what each scores right after it was learned, can be known that way; averages over
    all tasks, forgetting and transfer cannot.
    The rule: De Lange et al. 2019 (arXiv 1909.08383), as used by FACIL, Masana et al. 2020
    (arXiv 2010.15277).
    """
    return metric == "auto" or metric.split("/")[-1] == "avg_learning"


def direction(metric: str) -> str:
    """`maximize` or `minimize`. Raises ValueError for a metric that results.json does not hold."""
    options = known_metrics()
    if metric not in options:
        # The whole list would fill a screen: name the nearest, and what a name is made of.
        hint = suggest(metric, options).split("allowed:")[0]
        raise ValueError(
            f"sweep.objective={metric}: no such metric in results.json; {hint}allowed: MODE/QUANTITY/METRIC, "
            f"such as fast/loss/avg_learning; modes {', '.join(MODES)}; quantities {', '.join(ALL)}"
        )
    return "maximize" if better(metric) > 0 else "minimize"


def known_metrics() -> list[str]:
    """Every metric that each run has, whatever else it measures."""
    # The names depend on what was measured, not on the numbers: NaN in every mode is enough.
    blank: Scores = {mode: {quantity: [math.nan] for quantity in ALL} for mode in MODES}
    results = Results(scenario="task", tasks=["a"], fingerprints=[""], learned_at=[1], entropy=[math.nan], phases=1)
    # The rows are that before the stream and that after its only task.
    for _ in range(2):
        results.add(columns=[0], scores=blank, base=blank)
    return names(results)


@dataclass(frozen=True)
class Choice:
    """The candidate that is `best` by the mean of an objective, and the means of all.

    A candidate is the words that set it apart. The mean of one with a run that failed is None, and
    so is the best of none.
    """

    objective: str
    best: tuple[str, ...] | None
    means: Mapping[tuple[str, ...], float | None]

    def as_json(self) -> dict[str, Any]:
        """What a run's folder keeps of it."""
        candidates = [{"words": list(words), "mean": mean} for words, mean in self.means.items()]
        is_known = obeys_continual_rule(self.objective)
        rule = {"objective": self.objective, "direction": direction(self.objective), "continual_rule": is_known}
        return {**rule, "chosen": list(self.best or ()), "candidates": candidates}

    def line(self) -> str:
        """The choice in words, with what there was to choose from."""
        tried = ", ".join(f"{' '.join(words)} {_shown(mean)}" for words, mean in self.means.items())
        if self.best is None:
            return f"nothing chosen, since no candidate has a value of {self.objective} ({tried})"
        edge = self._edge()
        return f"chosen {' '.join(self.best)} by {self.objective} ({tried})" + (f"; {edge}" if edge else "")

    def _edge(self) -> str:
        """Whether the best value is the smallest or the largest of at least three, as a warning."""
        values = [float(words[0].partition("=")[2]) for words in self.means if _is_number(words)]
        if self.best is None or len(values) < max(len(self.means), 3):
            return ""
        best = float(self.best[0].partition("=")[2])
        which = {min(values): "smallest", max(values): "largest"}.get(best)
        return f"the {which} that was tried: a wider range may hold a better one" if which else ""


def choose(scores: Mapping[tuple[str, ...], Sequence[float | None]], objective: str) -> Choice:
    """The candidate whose mean over its runs is best; none where no candidate has one.

    A candidate with a run that failed or measured no value has no mean.
    """
    means = {words: _mean(values) for words, values in scores.items()}
    finite = {words: mean for words, mean in means.items() if mean is not None}
    pick = min if direction(objective) == "minimize" else max
    best = pick(finite, key=lambda words: finite[words]) if finite else None
    return Choice(objective, best, means)


def _is_number(words: Sequence[str]) -> bool:
    """Is a candidate one key with a number?"""
    try:
        float(words[0].partition("=")[2])
    except (ValueError, IndexError):
        return False
    return len(words) == 1


def _shown(mean: float | None) -> str:
    return "failed" if mean is None else f"{mean:.4f}"


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if len(finite) == len(values) else None
