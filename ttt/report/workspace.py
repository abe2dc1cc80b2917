"""A saved workspace in W&B: what a project's runs are looked at for, in sections, on every screen.

    The comparison   tables and pictures that `ttt-compare --wandb` pushed
    Levels           loss on the tasks so far, along the stream, in each mode
    Change           gained against forgotten, a point for each run
    Training         loss, learning rate and speed along the steps

Groups of W&B are method and stream, so that the seeds of a sweep fold into one line.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ttt.results.scores import COMPARED
from ttt.sinks.base import first_line
from ttt.sinks.numbers import FAMILIES

if TYPE_CHECKING:
    import wandb
    from wandb_workspaces.workspaces import Workspace

log = logging.getLogger("ttt")
# The id of the workspace in its project: the same for every push.
VIEW = "tttworkspace"
NAME = "ttt: levels and changes"


def save_workspace(run: wandb.Run, *, headline: str, pictures: Sequence[str]) -> str | None:
    """Save the workspace in the project of `run` unless it is there; return its address.

    `headline`: the mode and quantity that it is about, such as fast/loss. `pictures`: the names of
    the pictures of a comparison.

    None where nothing can be saved: offline, or without the package `wandb-workspaces`. One that is
    there stays as somebody arranged it.
    """
    if run.settings._offline or importlib.util.find_spec("wandb_workspaces") is None:
        return None
    from wandb_workspaces.workspaces import Workspace

    site = urlsplit(str(run.url))
    address = f"{site.scheme}://{site.netloc}/{run.entity}/{run.project}?nw={VIEW}"
    try:
        try:
            Workspace.from_url(address)
        except ValueError:
            # The project has no such workspace yet.
            workspace(run.entity, run.project, headline=headline, pictures=pictures).save()
    # Whatever the server says: the comparison itself is pushed.
    except Exception as error:
        log.warning("W&B: no workspace was saved: %s", first_line(error)[:200])
        return None
    return address


def workspace(entity: str, project: str, *, headline: str, pictures: Sequence[str]) -> Workspace:
    """Return the workspace of a project; built without a network."""
    from wandb_workspaces.expr import Metric
    from wandb_workspaces.workspaces import RunsetSettings, Section, Workspace

    panels = _sections(headline, pictures)
    sections = [Section(name=name, panels=shown, is_open=True) for name, shown in panels.items()]
    built = Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        runset_settings=RunsetSettings(groupby=[Metric("Group")]),
        auto_generate_panels=False,
    )
    # There is no public way to name a new workspace so that a later push finds it.
    built._internal_name = f"nw-{VIEW}-v"
    return built


def _sections(headline: str, pictures: Sequence[str]) -> dict[str, list[Any]]:
    """Return the panels of each section."""
    from wandb_workspaces.reports.v2.interface import LinePlot, MediaBrowser, ScatterPlot, SummaryMetric

    mode_used, quantity = headline.split("/")
    modes = COMPARED["carried" if mode_used == "carried" else "fast"]

    def line(*metrics: str, title: str) -> LinePlot:
        # A family is read along its axis, in W&B as in every other tracker.
        return LinePlot(title=title, x=FAMILIES[metrics[0].split("/")[0]], y=list(metrics))

    return {
        "The comparison": [MediaBrowser(media_keys=list(pictures))],
        "Levels": [
            line(*(f"eval/{mode}/{quantity}/{over}" for mode in modes), title=f"{quantity}, {tasks}")
            for over, tasks in (("seen", "tasks so far"), ("current", "the task just learned"), ("base", "the base"))
        ],
        "Change": [
            ScatterPlot(
                title=f"gained against forgotten, {mode}",
                x=SummaryMetric(f"{mode}/{quantity}/gained"),
                y=SummaryMetric(f"{mode}/{quantity}/forgetting_at_learn"),
            )
            for mode in modes
        ],
        "Training": [
            line("train/loss", title="training loss"),
            line("train/lr", title="learning rate"),
            line("train/tokens_per_second", title="tokens per second"),
        ],
    }
