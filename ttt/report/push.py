"""A comparison in W&B: one run of job_type `report` with the table, the pictures, and the page.

W&B itself averages a sample of 100 runs and has no standard deviation. The numbers pushed here were
computed from all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ttt.compare.groups import Group, headline
from ttt.compare.runs import RunSearch
from ttt.compare.sheet import Sheet
from ttt.config.identity import digest
from ttt.report import contrast
from ttt.report.drawings import comparison_drawings
from ttt.report.many import write_comparison
from ttt.report.workspace import save_workspace
from ttt.storage.run_folder import PAGE


def push(groups: Sequence[Group], sheet: Sheet, *, project: str, folder: Path) -> str:
    """Push a comparison to W&B and return a line that says where it is.

    Without a login or a server in reach the W&B run is kept offline in `folder`, and no workspace
    is saved. Its id is made of
    the compared runs: pushing the same comparison again updates the same W&B run.
    """
    # Imported here: wandb takes its time, and few comparisons are pushed.
    import wandb

    from ttt.sinks.wandb_run import WandbRun, close_wandb_run, open_wandb_run

    runs = [run.folder for group in groups for run in group.runs]
    filed = WandbRun(
        project=project,
        job_type="report",
        id=digest(sorted(str(run.resolve()) for run in runs))[:8],
        name=f"comparison of {len(runs)} runs in {len(groups)} groups",
        config={
            "groups": [group.name for group in groups],
            "runs": [run.name for run in runs],
            "title": sheet.title,
        },
        folder=folder,
    )
    run = open_wandb_run(filed, connection="auto", resume=True)
    content = _content(groups, sheet)
    run.log(content)
    drawn = [name for name, shown in content.items() if isinstance(shown, wandb.Image)]
    saved = save_workspace(run, headline=headline(groups), pictures=drawn)
    with TemporaryDirectory(prefix="ttt-") as work:
        page = wandb.Artifact(f"comparison-{run.id}", type="report")
        page.add_file(str(write_comparison(RunSearch(runs, {}), to=Path(work) / PAGE)))
        run.log_artifact(page)
        # Inside `with`: the page is uploaded as the run is closed.
        where = close_wandb_run(run)
    return f"{where}; workspace: {saved}" if saved else where


def _content(groups: Sequence[Group], sheet: Sheet) -> dict[str, Any]:
    """Return the table, with a row for each group and metric, and the pictures of the page."""
    import wandb

    from ttt.figures.heat import pixels

    records = sheet.records()
    columns: list[str | int] = list(records[0])
    content: dict[str, Any] = {
        "comparison/table": wandb.Table(columns=columns, data=[list(record.values()) for record in records])
    }
    chosen, why = contrast.chosen(groups)
    frontier = contrast.rate_frontier(groups)
    for drawing in comparison_drawings(groups, chosen, why, frontier):
        content[f"comparison/{drawing.name}"] = wandb.Image(pixels(drawing.draw()), caption=drawing.caption)
    return content
