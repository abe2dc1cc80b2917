"""The result array R[mode, quantity, i, j] of one run, and every metric that follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ttt.metrics.curves import Curves
from ttt.metrics.matrix import AVERAGES, METRICS, Matrix, along, why_undefined
from ttt.metrics.references import NOISE, REFERENCE_METRICS, References, from_values, why_not_compared
from ttt.metrics.split import SPLIT
from ttt.results import catalogue as derived
from ttt.results import rows
from ttt.results.scores import Scores, sign
from ttt.storage.journal import plain

if TYPE_CHECKING:
    from ttt.stream import Stream

BASE = ("base_final", "base_forgetting")
GAINS = ("avg_final", "avg_learning", "learning_slope", *SPLIT)


class Results:
    """Rows are added as they are measured; everything else is derived from them.

    `learned_at[j]`: the row after the first phase that teaches task j. `entropy[j]`: bits that the best predictor
    needs for a scored token of task j, NaN where nobody knows. `points`: evaluations inside phases, `every` so many
    steps; `relearned`: tasks learned once more on a copy.
    """

    def __init__(
        self,
        *,
        scenario: str,
        tasks: Sequence[str],
        fingerprints: Sequence[str],
        learned_at: Sequence[int],
        entropy: Sequence[float],
        phases: int,
    ) -> None:
        self.scenario = scenario
        self.tasks, self.fingerprints = list(tasks), list(fingerprints)
        self.learned_at = np.asarray(learned_at, dtype=np.int64)
        self.entropy = np.asarray(entropy, dtype=np.float64)
        self.phases = phases
        self.rows: list[rows.Row] = []
        self.every = 0
        self.points: list[rows.Point] = []
        self.relearned: list[rows.Relearning] = []
        # Kept by ttt.results.catalogue.
        self.curves: dict[tuple[str, str, int, int], Curves] = {}
        # reference -> mode -> quantity -> a value for each task
        self.references: dict[str, dict[str, dict[str, list[float]]]] = {}
        self._matrices: dict[tuple[str, str, int], Matrix] = {}
        self._reasons: dict[tuple[str, bytes], str] = {}

    @classmethod
    def of(cls, stream: Stream) -> Results:
        """Empty results for the tasks of a stream."""
        return cls(
            scenario=stream.scenario,
            tasks=[task.name for task in stream.tasks],
            fingerprints=[task.fingerprint for task in stream.tasks],
            learned_at=stream.learned_at.tolist(),
            entropy=[task.entropy for task in stream.tasks],
            phases=len(stream.phases),
        )

    def add(
        self,
        *,
        columns: list[int],
        scores: Scores,
        base: Scores | None,
        step: int | None = None,
        current: int | None = None,
        diagnostics: dict[str, float] | None = None,
        profile: list[list[float]] | None = None,
    ) -> None:
        """Another row of R, see `Row`."""
        self.rows.append({"columns": columns, "scores": scores, "base": base, "step": step, "current": current,
                          "diagnostics": diagnostics or {}, "profile": profile})  # fmt: skip

    @property
    def modes(self) -> list[str]:
        return list(self.rows[0]["scores"]) if self.rows else []

    @property
    def quantities(self) -> list[str]:
        return list(next(iter(self.rows[0]["scores"].values()))) if self.rows else []

    @property
    def used(self) -> str:
        """The mode in which the model is used: that of a policy is `carried`, learned weights and the prompt in use."""
        return "carried" if "success" in self.quantities and "carried" in self.modes else "fast"

    @property
    def headline(self) -> str:
        """MODE/QUANTITY: what is looked at first."""
        return f"{self.used}/{'success' if 'success' in self.quantities else 'loss'}"

    def matrix(self, mode: str, quantity: str) -> Matrix:
        """R of shape (P + 1, J), in the unit of the quantity; NaN where nothing was measured. Not to be written to."""
        key = (mode, quantity, len(self.rows))
        if key not in self._matrices:
            r = np.full((self.phases + 1, len(self.tasks)), np.nan)
            for i, row in enumerate(self.rows):
                r[i, row["columns"]] = row["scores"][mode][quantity]
            r.setflags(write=False)
            self._matrices[key] = r
        return self._matrices[key]

    def base_values(self, mode: str, quantity: str) -> list[float]:
        """The base distribution in the rows in which it was measured."""
        return [row["base"][mode][quantity][0] for row in self.rows if row["base"] is not None]

    def names(self) -> list[str]:
        """Every metric that `metric` knows, as mode/quantity/metric."""
        names = []
        for mode in self.modes:
            told = (*METRICS, *BASE, *(REFERENCE_METRICS if self.references else ()))
            names += [f"{mode}/{quantity}/{name}" for quantity in self.quantities for name in told]
            names += [f"{mode}/regret/{name}" for name in AVERAGES]
        names += [f"fast_gain/{quantity}/{name}" for quantity in self.quantities for name in GAINS]
        return names + derived.names(self)

    def metrics(self) -> dict[str, float]:
        return {name: self.metric(name) for name in self.names()}

    def metric(self, name: str) -> float:
        """The value of `mode/quantity/metric`. Averages keep their unit; gains and harms are oriented."""
        mode, quantity, metric = name.split("/")
        if derived.is_known(name) and mode != "fast_gain":
            return derived.value(self, name)
        if mode == "fast_gain":
            return self._gain(quantity, metric)
        if quantity == "regret":
            # What the loss has over that of one who knows the task.
            return METRICS[metric](self.matrix(mode, "loss") - self.entropy, self.learned_at)
        s = sign(quantity)
        if metric in REFERENCE_METRICS:
            return REFERENCE_METRICS[metric](
                s * self.matrix(mode, quantity), self.learned_at, self._peers(mode, quantity)
            )
        if metric in BASE:
            base = self.base_values(mode, quantity) or [float("nan")]
            return base[-1] if metric == "base_final" else s * (base[0] - base[-1])
        value = METRICS[metric](s * self.matrix(mode, quantity), self.learned_at)
        return s * value if metric in AVERAGES else value

    def _peers(self, mode: str, quantity: str) -> References:
        found = {name: modes[mode][quantity] for name, modes in self.references.items() if mode in modes}
        return from_values(found, sign=sign(quantity), phases=self.phases, tasks=len(self.tasks))

    def _gain(self, quantity: str, metric: str) -> float:
        """What the mode in `used` has over mode `slow`, positive where fast weights help."""
        s, at = sign(quantity), self.learned_at
        slow, fast = (s * self.matrix(mode, quantity) for mode in ("slow", self.used))
        return SPLIT[metric](slow, fast, at) if metric in SPLIT else METRICS[metric](fast - slow, at)

    def why(self, name: str) -> str:
        """The reason why `metric(name)` is NaN."""
        mode, quantity, metric = name.split("/")
        if derived.is_known(name) and mode != "fast_gain":
            return derived.why(self, name)
        if metric in BASE:
            return "the base distribution was not measured"
        if metric in REFERENCE_METRICS:
            return why_not_compared(metric, self.references)
        of = "loss" if quantity == "regret" else quantity
        a = self.matrix(self.used, of) - self.matrix("slow", of) if mode == "fast_gain" else self.matrix(mode, of)
        if quantity == "regret" and not np.isnan(METRICS[metric](a, self.learned_at)):
            return "the entropy of a task is not known"
        # Many quantities have the same holes.
        key = metric, np.packbits(np.isnan(a)).tobytes()
        if key not in self._reasons:
            self._reasons[key] = self._why(metric, a, split=mode == "fast_gain" and metric in SPLIT)
        return self._reasons[key]

    def _why(self, metric: str, a: Matrix, *, split: bool) -> str:
        if not split:
            return why_undefined(METRICS[metric], a, self.learned_at)
        # What fast_share divides by may be too small, whatever was measured; lost_access needs the same cells.
        part = SPLIT["lost_access" if metric == "fast_share" else metric]
        if metric == "fast_share" and not math.isnan(part(a, a, self.learned_at)):
            return f"the slow weights forgot no more than {NOISE}"
        return why_undefined(lambda x, at: part(x, np.zeros_like(x), at), a, self.learned_at)

    def curve(self, mode: str, quantity: str, metric: str) -> list[float]:
        """The metric after each phase, over the tasks learned by then; mode `fast_gain`: what `used` has over slow."""
        if quantity in ("plasticity", "drift"):
            return derived.series(self, f"{mode}/{quantity}/{metric}")
        s = sign(quantity)
        if mode == "fast_gain":
            gain = s * (self.matrix(self.used, quantity) - self.matrix("slow", quantity))
            return along(METRICS[metric], gain, self.learned_at)
        values = along(METRICS[metric], s * self.matrix(mode, quantity), self.learned_at)
        return [s * value for value in values] if metric in AVERAGES else values

    def as_json(self) -> dict[str, Any]:
        """What results.json holds: no times, so that equal runs write equal files."""
        metrics = self.metrics()
        undefined = {}
        for name, value in metrics.items():
            if math.isnan(value) and "/regret/" not in name:
                undefined[name] = self.why(name)
        gains = self.matrix(self.used, "loss"), self.matrix("slow", "loss")
        content: dict[str, Any] = plain(
            {
                "scenario": self.scenario,
                "tasks": self.tasks,
                "fingerprints": self.fingerprints,
                "learned_at": self.learned_at.tolist(),
                "entropy": self.entropy.tolist(),
                "phases": self.phases,
                "metrics": metrics,
                "undefined": undefined,
                "fast_gain_per_task": {"loss": (gains[1] - gains[0])[-1].tolist()},
                "references": self.references,
                "anytime": {"every": self.every, **rows.compact(self.points)},
                "relearned": self.relearned,
                "rows": self.rows,
            }
        )
        return content


def from_json(content: dict[str, Any]) -> Results:
    """The inverse of `as_json`; null is NaN again. Raises ValueError for a file of another version."""
    try:
        results = Results(
            scenario=content["scenario"],
            tasks=content["tasks"],
            fingerprints=content["fingerprints"],
            learned_at=content["learned_at"],
            entropy=[float("nan") if x is None else x for x in content["entropy"]],
            phases=content["phases"],
        )
        results.rows = rows.rows_from_json(content["rows"])
        results.every, results.points = content["anytime"]["every"], rows.points_from_json(content["anytime"])
        results.relearned = rows.relearned_from_json(content["relearned"])
        results.references = {name: rows.scores_from_json(scores) for name, scores in content["references"].items()}
    except KeyError as error:
        raise ValueError(f"results.json has no {error}: written by another version of ttt; run it again") from error
    return results
