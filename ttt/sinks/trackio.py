"""`logger=trackio`: trackio, a tracker with a page of its own on this machine; `trackio show` opens it.

It has no axes of its own choosing: one picks `axis/step` or `axis/task` on the page.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import RunInfo, require
from ttt.sinks.numbers import axes, finite, numbers


class TrackioSink:
    def __init__(self, *, name: str, project: str) -> None:
        require("trackio", logger=name)
        self.name = name
        self._project = project

    def start(self, run: RunInfo) -> None:
        import trackio

        # A resumed run tells again what was before. ValueError: the project is new.
        with contextlib.suppress(ValueError):
            for old in trackio.Api().runs(self._project):
                if old.name == run.name:
                    old.delete()
        with contextlib.redirect_stdout(io.StringIO()):
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
        self._axes = axes(event)
        self._run.log(self._axes | numbers(event))

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        import trackio

        if exit_code == 0:
            from ttt.figures.heat import heat, pixels

            shown: dict[str, Any] = finite(results.metrics()) | {f"cost/{name}": x for name, x in numbers.items()}
            for mode in results.modes:
                picture = pixels(heat(results.matrix(mode, "loss"), title=f"loss in bits, mode {mode}"))
                shown[f"R/{mode}/loss"] = trackio.Image(picture)
            self._run.log(self._axes | shown)
        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()
        return f"trackio: trackio show --project {self._project}"
