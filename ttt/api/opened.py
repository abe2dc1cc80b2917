"""A run as an object: its numbers, and the learner that it left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttt.config.messages import UsageError, suggest
from ttt.results import catalogue
from ttt.results.results import Results
from ttt.storage.read import read_config, read_costs, read_results
from ttt.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from ttt.learner import Learner
    from ttt.metrics.matrix import Matrix


@dataclass(frozen=True)
class ResultArray:
    """R of one mode and quantity: `values[i, j]`, on task j after learning task i (0: before all).

    `after` names the rows, `tasks` the columns. NaN stands where nothing was measured. numpy takes
    it as it is: `np.asarray(r)`.
    """

    values: Matrix
    after: Sequence[str]
    tasks: Sequence[str]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.values, dtype=dtype, copy=copy)

    def __getitem__(self, where: Any) -> Any:
        return self.values[where]

    def to_frame(self) -> pd.DataFrame:
        """A row for each row of R, a column for each task."""
        import pandas as pd

        return pd.DataFrame(self.values, index=pd.Index(self.after, name="after"), columns=pd.Index(self.tasks))

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(float_format="{:.3f}".format, na_rep="-"))


class Numbers(dict[str, float]):
    """Numbers by name; a name that is not there is answered with the nearest one."""

    def __missing__(self, name: str) -> float:
        raise KeyError(f"{name}: unknown; {suggest(name, self)}")


@dataclass(frozen=True)
class Run:
    """A finished run. Its files are read when they are asked for, and never changed."""

    folder: Path
    trusted: tuple[Path, ...] = ()

    # A frozen dataclass refuses assignments, but cached_property writes to `__dict__` itself.
    @cached_property
    def results(self) -> Results:
        """Everything that was measured, as ttt itself reads it."""
        return read_results(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return read_config(self.folder)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric by its name MODE/QUANTITY/METRIC, and the costs cost/run/KEY."""
        return Numbers(catalogue.metrics(self.results) | read_costs(self.folder))

    def R(self, mode: str | None = None, quantity: str | None = None) -> ResultArray:  # noqa: N802
        """The result array, by default of the mode in which the model is used and its headline.

        Raises UsageError for a mode or quantity that the run did not measure.
        """
        results = self.results
        headline = results.headline.split("/")
        mode, quantity = mode or headline[0], quantity or headline[1]
        for word, kind, allowed in (("mode", mode, results.modes), ("quantity", quantity, results.quantities)):
            if kind not in allowed:
                raise UsageError(f"{word}={kind!r}: this run did not measure it; {suggest(kind, allowed)}")
        values = results.matrix(mode, quantity)
        # `current` is None in row 0 alone, which is left out here.
        after = ["before the stream", *(results.tasks[row["current"] or 0] for row in results.rows[1:])]
        return ResultArray(values, after, results.tasks)

    def to_frame(self) -> pd.DataFrame:
        """R as a long table: mode, quantity, row, task, value; a line for each measured number."""
        import pandas as pd

        results = self.results
        records = [
            {"mode": mode, "quantity": quantity, "row": i, "task": results.tasks[j], "value": float(r[i, j])}
            for mode in results.modes
            for quantity in results.quantities
            for r in [results.matrix(mode, quantity)]
            for i, j in np.argwhere(np.isfinite(r))
        ]
        return pd.DataFrame.from_records(records)

    def learner(self) -> Learner:
        """The model with its adapter, newest slow weights and fast state; loads torch.

        Raises UsageError where the run left no checkpoint that can be used.
        """
        # Imported here: the numbers of a run need no torch.
        from ttt.run.open import open_run as opened

        try:
            return opened(self.folder, trusted=self.trusted).learner
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _repr_html_(self) -> str:
        return f"<p><code>{self.folder}</code></p>{self.R()._repr_html_()}"


def open_run(folder: str | Path, *, config_dir: str | Path | None = None) -> Run:
    """The finished run in `folder`; `config_dir`: the folder of your own parts, if it used some.

    Raises UsageError where there is none.
    """
    path = Path(folder).expanduser()
    if not RunFolder(path).results.is_file():
        from ttt.storage.absent import not_a_run

        begun = RunFolder(path).config.is_file()
        raise UsageError(f"{folder}: {'this run is not done' if begun else not_a_run(path)}")
    run = Run(path, (Path(config_dir),) if config_dir else ())
    # Read at once, so that a damaged file is refused here and not where it is used.
    try:
        run.results, run.config  # noqa: B018
    except ValueError as error:
        raise UsageError(str(error)) from error
    return run
