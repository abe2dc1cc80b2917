"""results.json: what was measured, every metric of it, and why a metric is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, TypeVar

from ttt.config.kinds import mismatch
from ttt.results import catalogue
from ttt.results.consistent import inconsistency
from ttt.results.results import Results
from ttt.results.rows import (
    Points,
    Relearning,
    Row,
    compact,
    plain,
    points_from_json,
    relearned_from_json,
    rows_from_json,
    scores_from_json,
)
from ttt.results.scores import Scores

SomeResults = TypeVar("SomeResults", bound=Results)


class Saved(TypedDict):
    """What of results.json becomes `Results`."""

    scenario: str
    tasks: list[str]
    fingerprints: list[str]
    learned_at: list[int]
    entropy: list[float]
    phases: int
    tags: NotRequired[list[dict[str, str]]]
    references: dict[str, Scores]
    anytime: Points
    relearned: list[Relearning]
    rows: list[Row]


def as_json(results: Results) -> dict[str, Any]:
    """The content of results.json. It holds no times, so that equal runs write equal files."""
    # Metrics are written for people and other programs: ttt itself derives them from the rows.
    metrics = catalogue.metrics(results)
    slow, used = results.matrix("slow", "loss"), results.matrix(results.used, "loss")
    content: dict[str, Any] = plain(
        {
            "scenario": results.scenario,
            "tasks": results.tasks,
            "fingerprints": results.fingerprints,
            "learned_at": results.learned_at.tolist(),
            "entropy": results.entropy.tolist(),
            "phases": results.phases,
            # Left out where no task has any, as by sources without kinds of classes.
            **({"tags": results.tags} if any(results.tags) else {}),
            "metrics": metrics,
            "undefined": catalogue.undefined(results, metrics),
            "fast_gain_per_task": {"loss": (slow - used)[-1].tolist()},
            "references": results.references,
            "anytime": {"every": results.every, **compact(results.points)},
            "relearned": results.relearned,
            "rows": results.rows,
        }
    )
    return content


def from_json(content: Mapping[str, Any]) -> Results:
    """The results that `as_json` wrote; metrics are computed anew.

    Raises ValueError for a file of another version, and for one that does not fit together.
    """
    fault = mismatch(content, Saved)
    if "has no " in fault:
        # A missing key is the only trace of the version that wrote a file.
        fault += ": written by another version of ttt; run it again"
    if fault:
        raise ValueError(fault)
    results = without_rows(Results, content)
    results.rows = rows_from_json(content["rows"])
    fault = inconsistency(results)
    if fault:
        raise ValueError(fault)
    return results


def without_rows(kind: type[SomeResults], content: Mapping[str, Any]) -> SomeResults:
    """Everything that `as_json` wrote but the rows of R."""
    results = kind(
        scenario=content["scenario"],
        tasks=content["tasks"],
        fingerprints=content["fingerprints"],
        learned_at=content["learned_at"],
        entropy=[float("nan") if x is None else x for x in content["entropy"]],
        phases=content["phases"],
        tags=content.get("tags", ()),
    )
    results.every, results.points = content["anytime"]["every"], points_from_json(content["anytime"])
    results.relearned = relearned_from_json(content["relearned"])
    results.references = {name: scores_from_json(scores) for name, scores in content["references"].items()}
    return results
