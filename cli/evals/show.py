"""What `ttt-eval` measured, as a table and as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from ttt.cli.evals.opening import EvalSubject
from ttt.cli.probes.show import new_table
from ttt.requests.model import RunModel
from ttt.requests.respondent import Respondent
from ttt.requests.suite import Suite, installed
from ttt.storage.environment import git_state


def numbers_of(
    subject: EvalSubject, respondent: Respondent, suite: Suite, model: RunModel, measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that the numbers depend on, and the numbers."""
    metadata = {key: value for key, value in (suite.metadata or {}).items() if key != "tokenizer"}
    return {
        "tasks": list(suite.tasks),
        "mode": "fast" if respondent.write else "slow",
        "limit": suite.limit,
        "metadata": metadata,
        "seeds": suite.seeds,
        "reader": asdict(subject.owner) | {"learned": subject.weights, "precision": subject.precision},
        "rows": respondent.rows,
        "versions": installed(),
        "git": git_state(),
        "requests": model.requests,
        "tokens": model.tokens,
        **measured,
    }


def title_of(numbers: Mapping[str, Any]) -> str:
    """What answered, in words."""
    reader = numbers["reader"]
    parts = f"model={reader['model']} adapter={reader['adapter']}, {reader['learned']}"
    return f"{reader['run']} ({parts}), mode {numbers['mode']}"


def table_of(numbers: Mapping[str, Any]) -> Table:
    """A line for each metric of each task."""
    table = new_table("", "task", "metric", "shots", "n", "value", "error", left=2)
    for task, row in numbers["results"].items():
        examples = numbers["examples"].get(task, {}).get("effective", "")
        for metric, value, error in _metrics(row):
            shots = str(numbers["shots"].get(task, ""))
            table.add_row(escape(task), escape(metric), shots, str(examples), _number(value), _number(error))
    return table


def _metrics(row: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each metric under lm-eval's name, its filter where there is any, its value and error."""
    for key, value in row.items():
        name, _, filtered = key.partition(",")
        if not name.endswith("_stderr") and isinstance(value, int | float):
            label = name if filtered in ("", "none") else f"{name} ({filtered})"
            yield label, value, row.get(f"{name}_stderr,{filtered}")


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "-"
