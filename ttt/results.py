"""The result array R[mode, quantity, i, j] of one run, and every metric that follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ttt.evaluate import QUANTITIES, Scores
from ttt.journal import plain
from ttt.metrics.matrix import AVERAGES, METRICS, Matrix, avg_final, learned, why_undefined


def sign(quantity: str) -> int:
    """+1 where higher is better, -1 for a loss."""
    return -1 if quantity.startswith("loss") else 1


class Results:
    """Rows are added as they are measured; everything else is derived from them."""

    def __init__(self, *, tasks: Sequence[str], fingerprints: Sequence[str]) -> None:
        self.tasks = list(tasks)
        self.fingerprints = list(fingerprints)
        self.rows: list[Scores] = []
        self.base_rows: list[Scores] = []

    def add(self, *, tasks: Scores, base: Scores) -> None:
        self.rows.append(tasks)
        self.base_rows.append(base)

    @property
    def modes(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []

    def matrix(self, mode: str, quantity: str) -> Matrix:
        """R of shape (J + 1, J), in the unit of the quantity; NaN where nothing was measured yet."""
        j = len(self.tasks)
        r = np.full((j + 1, j), np.nan)
        for i, row in enumerate(self.rows):
            r[i] = row[mode][quantity]
        return r

    def metrics(self) -> dict[str, float]:
        """`mode/quantity/metric` -> value. Averages keep their unit; gains and harms are oriented."""
        values = {}
        for mode in self.modes:
            for quantity in QUANTITIES:
                s, r = sign(quantity), self.matrix(mode, quantity)
                for name, metric in METRICS.items():
                    value = metric(s * r)
                    values[f"{mode}/{quantity}/{name}"] = s * value if name in AVERAGES else value
                base = [row[mode][quantity][0] for row in self.base_rows]
                values[f"{mode}/{quantity}/base_final"] = base[-1]
                values[f"{mode}/{quantity}/base_forgetting"] = s * (base[0] - base[-1])
        for quantity in QUANTITIES:
            values |= self._split(quantity)
        return values

    def _split(self, quantity: str) -> dict[str, float]:
        """The fast share: what mode `fast` has over mode `slow`, positive where fast weights help.

        `recovered`: forgetting of the slow weights that fast weights make up for (slow minus fast).
        """
        gain = sign(quantity) * (self.matrix("fast", quantity) - self.matrix("slow", quantity))
        forgot = [
            METRICS["forgetting_max_seen"](sign(quantity) * self.matrix(mode, quantity)) for mode in ("slow", "fast")
        ]
        return {
            f"fast_gain/{quantity}/avg_final": avg_final(gain),
            f"fast_gain/{quantity}/avg_learning": float(learned(gain).mean()),
            f"fast_gain/{quantity}/forgetting_recovered": forgot[0] - forgot[1],
        }

    def as_json(self) -> dict[str, Any]:
        """What results.json holds: no times, so that equal runs write equal files."""
        metrics = self.metrics()
        matrices = {mode: {q: self.matrix(mode, q).tolist() for q in QUANTITIES} for mode in self.modes}
        undefined = {}
        for name, value in metrics.items():
            mode, quantity, _ = name.split("/")
            if math.isnan(value):
                undefined[name] = why_undefined(self.matrix("fast" if mode == "fast_gain" else mode, quantity))
        gains = self.matrix("fast", "loss"), self.matrix("slow", "loss")
        content: dict[str, Any] = plain(
            {
                "tasks": self.tasks,
                "fingerprints": self.fingerprints,
                "metrics": metrics,
                "undefined": undefined,
                "fast_gain_per_task": {"loss": (gains[1] - gains[0])[-1].tolist()},
                "R": matrices,
                "base": self.base_rows,
            }
        )
        return content


def from_json(content: dict[str, Any]) -> Results:
    """The inverse of `as_json`; null is NaN again."""
    results = Results(tasks=content["tasks"], fingerprints=content["fingerprints"])
    results.base_rows = content["base"]
    for i in range(len(content["tasks"]) + 1):
        results.rows.append(
            {
                mode: {q: [float("nan") if x is None else x for x in r[i]] for q, r in quantities.items()}
                for mode, quantities in content["R"].items()
            }
        )
    return results
