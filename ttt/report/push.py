"""A comparison in W&B: one run of job_type `report` with the table, the pictures, and the page itself.

W&B averages a sample of 100 runs and knows no standard deviation; what it shows here was computed from all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ttt.compare.groups import Group
from ttt.compare.runs import Found
from ttt.compare.table import Sheet
from ttt.config.identity import digest
from ttt.report import contrast
from ttt.report.many import write_comparison


def push(groups: Sequence[Group], sheet: Sheet, *, project: str, folder: Path) -> str:
    """Returns a line that says where. Without a login, or a server in reach, the run is kept offline in `folder`.

    The same runs are the same comparison: pushed again, it goes to the run of the first time.
    """
    import wandb

    from ttt.sinks.wandb import wanted_mode

    runs = [run.folder for group in groups for run in group.runs]
    names = [group.name for group in groups]
    settings: dict[str, Any] = {
        "project": project,
        "job_type": "report",
        "id": digest(sorted(str(run.resolve()) for run in runs))[:8],
        "name": f"comparison of {len(runs)} runs in {len(groups)} groups",
        "config": {"groups": names, "runs": [run.name for run in runs], "title": sheet.title},
        "dir": folder,
    }
    quiet: dict[str, Any] = {"console": "off", "silent": True, "x_disable_stats": True, "disable_git": True}
    quiet["init_timeout"] = 15
    mode: Any = wanted_mode("auto")
    try:
        run = wandb.init(**settings, mode=mode, resume="allow", settings=wandb.Settings(**quiet))
    except (wandb.errors.CommError, wandb.errors.UsageError):
        wandb.teardown()
        run = wandb.init(**settings, mode="offline", settings=wandb.Settings(**quiet))
    run.log(_content(groups, sheet))
    with TemporaryDirectory(prefix="ttt-") as work:
        page = wandb.Artifact(f"comparison-{run.id}", type="report")
        page.add_file(str(write_comparison(Found(runs, {}), to=Path(work) / "report.html")))
        run.log_artifact(page)
        offline = run.settings._offline
        where = f"offline; to upload: wandb sync {run.settings.sync_dir}" if offline else str(run.url)
        run.finish()
    return f"W&B: {where}"


def _content(groups: Sequence[Group], sheet: Sheet) -> dict[str, Any]:
    """The table, a row for each group and metric, and the pictures of the page."""
    import wandb

    from ttt.figures.heat import pixels

    records = sheet.records()
    columns: list[str | int] = list(records[0])
    shown: dict[str, Any] = {
        "comparison/table": wandb.Table(columns=columns, data=[list(record.values()) for record in records])
    }
    chosen, why = contrast.chosen(groups)
    for drawing in contrast.drawings(groups, chosen, why, contrast.frontier(groups)):
        shown[f"comparison/{drawing.name}"] = wandb.Image(pixels(drawing.draw()), caption=drawing.caption)
    return shown
