"""What one run measured: the result array R[mode, quantity, i, j], and what belongs to it.

Every number that follows from it is in ttt.results.catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ttt.metrics.curves import Curves
from ttt.metrics.matrix import Matrix
from ttt.metrics.references import References, from_values
from ttt.results.rows import Point, Relearning, Row
from ttt.results.scores import Mode, Scores, sign

if TYPE_CHECKING:
    from ttt.stream import Stream


class Results:
    """Rows of R as they are measured, one after each phase.

    `learned_at[j]`: the row after the first phase that teaches task j. `entropy[j]`: bits that the
    best predictor needs for a scored token of task j, NaN where nobody knows. `points`: evaluations
    inside phases, one every `every` steps. `relearned`: tasks learned once more on a copy.
    `references`: what other networks scored: reference -> mode -> quantity -> one value each task.
    `tags`: of what kind each task is: {"script": "Greek"}; empty where its source does not say.
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
        tags: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.scenario = scenario
        self.tasks, self.fingerprints = list(tasks), list(fingerprints)
        self.learned_at = np.asarray(learned_at, dtype=np.int64)
        self.entropy = np.asarray(entropy, dtype=np.float64)
        self.phases = phases
        self.tags = [dict(each) for each in tags] or [{} for _ in self.tasks]
        self.rows: list[Row] = []
        self.every = 0
        self.points: list[Point] = []
        self.relearned: list[Relearning] = []
        self.references: dict[str, Scores] = {}
        # Hundreds of metrics share few arrays. The keys count the rows and points, so that a new
        # row makes no entry wrong, and nothing has to be cleared.
        self._matrices: dict[tuple[str, str, int], Matrix] = {}
        self._oriented: dict[tuple[str, str, int], Matrix] = {}
        self._curves: dict[tuple[str, str, int, int], Curves] = {}

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
            # Tasks of the user's own need not have any.
            tags=[getattr(task, "tags", {}) for task in stream.tasks],
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
        known_sets: dict[str, Scores] | None = None,
    ) -> None:
        """Append a row of R, see `Row`."""
        row: Row = {"columns": columns, "scores": scores, "base": base, "step": step, "current": current,
                    "diagnostics": diagnostics or {}, "profile": profile}  # fmt: skip
        if known_sets:
            row["known_sets"] = known_sets
        self.rows.append(row)

    @property
    def row_count(self) -> int:
        """How many rows were measured."""
        return len(self.rows)

    def _in_first_row(self, key: Literal["scores", "known_sets"]) -> dict[str, Any]:
        # Every row measures the same modes, quantities and sets: the first one stands for all.
        return dict(self.rows[0].get(key, {})) if self.rows else {}

    @property
    def modes(self) -> list[str]:
        return list(self._in_first_row("scores"))

    @property
    def quantities(self) -> list[str]:
        return list(next(iter(self._in_first_row("scores").values()), ()))

    @property
    def used(self) -> Mode:
        """The mode in which the model is used: of a policy, its learned weights with its prompt."""
        return "carried" if "success" in self.quantities and "carried" in self.modes else "fast"

    @property
    def headline(self) -> str:
        """MODE/QUANTITY: what a reader looks at first."""
        return f"{self.used}/{'success' if 'success' in self.quantities else 'loss'}"

    def matrix(self, mode: str, quantity: str) -> Matrix:
        """R [P + 1, J] in the unit of the quantity, read-only; NaN where nothing was measured."""
        key = (mode, quantity, self.row_count)
        if key not in self._matrices:
            r = np.full((self.phases + 1, len(self.tasks)), np.nan)
            for i, (columns, values) in enumerate(self._values(mode, quantity)):
                # Thinned rows fill some columns only.
                r[i, columns] = values
            # Whoever asks next gets the same array.
            r.setflags(write=False)
            self._matrices[key] = r
        return self._matrices[key]

    def _values(self, mode: str, quantity: str) -> Iterable[tuple[list[int], list[float]]]:
        """The tasks of each row, with their scores."""
        return ((row["columns"], row["scores"][mode][quantity]) for row in self.rows)

    def oriented(self, mode: str, quantity: str) -> Matrix:
        """A: R with its sign turned so that higher is better, read-only."""
        key = (mode, quantity, self.row_count)
        if key not in self._oriented:
            self._oriented[key] = self.matrix(mode, quantity)
            if sign(quantity) < 0:
                self._oriented[key] = -self._oriented[key]
                self._oriented[key].setflags(write=False)
        return self._oriented[key]

    def curves(self, mode: str, quantity: str) -> Curves:
        """a_j(n), oriented, over batches: the rows of R and the points between them."""
        key = (mode, quantity, self.row_count, len(self.points))
        if key not in self._curves:
            self._curves[key] = self._joined(mode, quantity)
        return self._curves[key]

    def _joined(self, mode: str, quantity: str) -> Curves:
        measured = [(row["step"], row["columns"], row["scores"]) for row in self.rows]
        measured += [(point["step"], point["columns"], point["scores"]) for point in self.points]
        # Rows and points come as two lists; as curves they are one, in the order of time.
        measured.sort(key=lambda evaluation: evaluation[0] or 0)
        values = np.full((len(measured), len(self.tasks)), np.nan)
        for i, (_, columns, scores) in enumerate(measured):
            values[i, columns] = scores[mode][quantity]
        times = np.array([float(step or 0) for step, _, _ in measured])
        ends = np.array([float(row["step"] or 0) for row in self.rows])
        # Of a run that stopped inside a phase the points after its last row belong to no phase.
        inside = times <= ends[-1]
        taught = [row["current"] for row in self.rows[1:]]
        assert None not in taught
        tasks = [j for j in taught if j is not None]
        return Curves(times[inside], sign(quantity) * values[inside], ends, tasks)

    def base_values(self, mode: str, quantity: str) -> list[float]:
        """The score on the base distribution, in the rows in which it was measured."""
        return [row["base"][mode][quantity][0] for row in self.rows if row["base"] is not None]

    @property
    def known_sets(self) -> dict[str, Scores]:
        """The scores before the stream on what the model knew, by the name of each set."""
        return self._in_first_row("known_sets")

    def known_values(self, name: str, mode: str, quantity: str) -> list[float]:
        """The score on one of those sets, in the rows in which it was measured."""
        if quantity not in self.known_sets.get(name, {}).get(mode, {}):
            return []
        return [row["known_sets"][name][mode][quantity][0] for row in self.rows if "known_sets" in row]

    def peers(self, mode: str, quantity: str) -> References:
        """What the reference networks scored, oriented; NaN for a network that was not measured."""
        values = {
            name: modes[mode][quantity] for name, modes in self.references.items() if quantity in modes.get(mode, ())
        }
        return from_values(values, sign=sign(quantity), phases=self.phases, tasks=len(self.tasks))
