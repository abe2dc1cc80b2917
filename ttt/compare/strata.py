"""Some tasks at a time: metrics over the tasks of one script, one part of a corpus, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ttt.compare.groups import Group
from ttt.config.messages import suggest
from ttt.metrics.bootstrap import Over
from ttt.results.by_task import is_mean_over_tasks, is_of_tasks


def by_tag(groups: Sequence[Group], tag: str) -> list[Group]:
    """A group for each group and value of a tag, over the tasks that have this value.

    A run without such a task is left out. Raises ValueError where a run has no tags, or not this
    one.
    """
    runs = [run for group in groups for run in group.runs]
    for run in runs:
        if not any(run.results.tags):
            raise ValueError(
                f"--by {tag}: {run.folder} has no tags of its tasks: its source ({run.config.get('source.name')}) "
                "gives none, or it ran before they were stored"
            )
    tags = {name for run in runs for task in run.results.tags for name in task}
    if tag not in tags:
        raise ValueError(f"--by {tag}: no task has this tag; {suggest(tag, tags)}")
    values = sorted({task[tag] for run in runs for task in run.results.tags if tag in task})
    strata = [_stratum(group, tag, value) for group in groups for value in values]
    return [stratum for stratum in strata if stratum.runs]


def _stratum(group: Group, tag: str, value: str) -> Group:
    # Each run has columns of its own: another seed puts the tasks of a kind in other places.
    tasks = [[j for j, tags in enumerate(run.results.tags) if tags.get(tag) == value] for run in group.runs]
    runs = [replace(run, tasks=columns) for run, columns in zip(group.runs, tasks, strict=True) if columns]
    return Group({**group.label, tag: value}, runs, group.by)


def summarised(groups: Sequence[Group], over: Over) -> list[Group]:
    """The groups with metrics that summarise their tasks in another way than by the mean."""
    return [replace(group, runs=[replace(run, over=over) for run in group.runs]) for group in groups]


def check_metrics(metrics: Sequence[str], *, by: str | None, over: Over) -> None:
    """Raise ValueError for a metric that some tasks alone do not have, or that has no mean."""
    for metric in metrics:
        if by and not is_of_tasks(metric):
            raise ValueError(f"--by {by}: {metric} is not measured task by task")
        if over != "mean" and not is_mean_over_tasks(metric):
            raise ValueError(f"--over-tasks {over}: {metric} is no mean over tasks")
