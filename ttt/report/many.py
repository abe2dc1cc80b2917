"""The page that compares runs. Read `content` from top to bottom: it is the page's table of contents."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ttt.compare.groups import Group, group_runs
from ttt.compare.runs import Found, Run, read_config, read_json, read_run
from ttt.config.messages import show
from ttt.report import contrast, page
from ttt.report.one import search
from ttt.report.parts import Cell, Table, value, word
from ttt.report.text import clean, thin
from ttt.storage.files import write_bytes

# Rows of the tables of runs; with more the page would grow past its limit.
RUNS, LEFT_OUT = 1000, 100


def write_comparison(found: Found, *, to: Path) -> Path:
    """Write the page `to` a file, and its pictures to plots/ beside it.

    Raises ValueError in one line where the runs saw different streams, or one of them cannot be read.
    """
    assert found.done, "nothing to compare"
    made = content(found, folder=to.parent)
    page.write_plots(to.parent / "plots", {picture.name: str(picture.svg) for picture in made["pictures"]})
    write_bytes(to, page.render("compare.html", made).encode())
    return to


def content(found: Found, *, folder: Path) -> dict[str, Any]:
    """What compare.html shows; `folder` is where the page will lie."""
    groups = group_runs([read_run(run) for run in found.done])
    runs = [run for group in groups for run in group.runs]
    columns = contrast.columns(groups)
    chosen, why = contrast.chosen(groups)
    baseline = contrast.baseline(groups)
    frontier = contrast.frontier(groups)
    return {
        "title": f"{len(runs)} runs in {len(groups)} {'group' if len(groups) == 1 else 'groups'}",
        "sentence": sentence(groups, runs),
        "differ": differ(groups),
        "lonely": any(len(group.runs) == 1 for group in groups),
        "searches": searches(groups),
        "main": contrast.table(groups, columns, baseline={}),
        "differences": contrast.table(groups, columns, baseline=baseline) if baseline else None,
        "baseline": contrast.baseline_name(groups),
        "areas": frontier and contrast.areas(frontier),
        "pictures": list(contrast.pictures(contrast.drawings(groups, chosen, why, frontier))),
        "per_task": contrast.per_task(chosen, why),
        "runs": run_table(groups, list(columns)[:4], folder=folder),
        "left_out": left_out(found, folder=folder),
    }


def sentence(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    """What was run, in plain words."""

    def all_of(key: str) -> str:
        return ", ".join(sorted({str(run.config.get(key, "")) for run in runs}))

    seeds = sorted({run.seed for run in runs})
    tasks = sorted({len(run.results.tasks) for run in runs})
    scenarios = ", ".join(sorted({run.results.scenario for run in runs}))
    text = (
        f"Streams {all_of('task.name')} of source {all_of('source.name')}, {scenarios}-incremental, "
        f"{' or '.join(map(str, tasks))} tasks; adapters {all_of('adapter.name')}, strategies "
        f"{all_of('strategy.name')}, optimizers {all_of('optimizer.name')}; {len(seeds)} "
        f"{'seed' if len(seeds) == 1 else 'seeds'} ({spelled(seeds)}). Only the seed differs within a group."
    )
    return clean(text)


def spelled(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def differ(groups: Sequence[Group]) -> Table:
    """The config keys that set the groups apart, and their values."""
    rows = []
    for key in groups[0].label:
        values = list(dict.fromkeys(show(group.label[key]) or "not there" for group in groups))
        rows.append([word(key), word(", ".join(values))])
    return Table("differ", "What differs between the groups", {"key": "", "values": ""}, rows, sortable=False)


def searches(groups: Sequence[Group]) -> list[str]:
    """What must be declared about how hyper-parameters were chosen."""
    return sorted({text for group in groups if (text := search(read_config(group.runs[0].folder)))})


def run_table(groups: Sequence[Group], metrics: Sequence[str], *, folder: Path) -> Table:
    """Each run with a link to its own page, where it has one."""
    every = [(group, run) for group in groups for run in group.runs]
    picked = thin(len(every), to=RUNS)
    rows = []
    for group, run in (every[k] for k in picked):
        label = [word(show(v)) for v in group.label.values()]
        numbers = [value(run.metric(metric)) for metric in metrics]
        own = run.folder / "report.html"
        link = relative(own, folder) if own.is_file() else ""
        rows.append(
            [Cell(clean(run.folder.name), link=link), *label, Cell(str(run.seed), value=str(run.seed)), *numbers]
        )
    columns = {"run": ""} | dict.fromkeys(groups[0].label, "") | {"seed": ""}
    columns |= {contrast.called(metric): metric for metric in metrics}
    note = f"{len(picked)} of {len(every)} runs, evenly chosen." if len(picked) < len(every) else ""
    return Table("runs", "Every run", columns, rows, note=note)


def relative(file: Path, folder: Path) -> str:
    """A link that holds wherever both are moved together."""
    return "./" + quote(Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix())


def left_out(found: Found, *, folder: Path) -> Table | None:
    if not found.unfinished:
        return None
    rows = []
    for run, status in list(found.unfinished.items())[:LEFT_OUT]:
        reason = _reason(run)
        shown = Path(os.path.relpath(run.resolve(), folder.resolve())).as_posix()
        rows.append([word(shown), word(status), word(reason)])
    total = len(found.unfinished)
    note = f"{LEFT_OUT} of {total} runs." if total > LEFT_OUT else ""
    return Table("left-out", "Left out: not finished", {"run": "", "status": "", "reason": ""}, rows, note=note)


def _reason(run: Path) -> str:
    file = run / "status.json"
    status: Mapping[str, Any] = read_json(file) if file.is_file() else {}
    return str(status.get("reason", ""))
