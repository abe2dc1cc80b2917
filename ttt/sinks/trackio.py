"""`logger=trackio`: trackio, a tracker with a page on this machine; `trackio show` opens it.

Its metrics have no fixed axes: choose `axis/step` or `axis/task` on the page.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import Past, RunInfo, require
from ttt.sinks.numbers import axis_values, event_numbers
from ttt.sinks.summary import pictures, summary


class TrackioSink:
    """Log every event to a trackio project, and at the end the summary and R as pictures."""

    def __init__(self, *, name: str, project: str) -> None:
        require("trackio", logger=name)
        self.name = name
        self._project = project

    def start(self, run: RunInfo, *, past: Past) -> None:
        import trackio

        # A resumed run repeats its past, so its earlier copy goes. ValueError: the project is new.
        with contextlib.suppress(ValueError):
            for old in trackio.Api().runs(self._project):
                if old.name == run.name:
                    old.delete()
        _silence("trackio", "trackio.run", "trackio.utils")
        self._run: Any = trackio.init(
            project=self._project,
            name=run.name,
            group=run.group,
            config=run.config | {"id": run.id, "tags": list(run.tags)},
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def __call__(self, event: Event) -> None:
        self._axes = axis_values(event)
        self._run.log(self._axes | event_numbers(event))

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        import trackio

        if exit_code == 0:
            images = {f"R/{mode}/loss": trackio.Image(picture) for mode, picture in pictures(results)}
            self._run.log(self._axes | summary(results, numbers) | images)
        trackio.finish()
        return f"trackio: trackio show --project {self._project}"


def _silence(*modules: str) -> None:
    """Take `print` from these modules: the screen belongs to the run.

    Redirecting stdout would take the lines of the run too, which come from another thread.
    """
    for name in modules:
        vars(import_module(name))["print"] = partial(print, file=io.StringIO())
