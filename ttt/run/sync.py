"""A run in a tracker, rebuilt from its folder: the same events in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ttt.config.build import build
from ttt.config.identity import identity
from ttt.results.events import Event, from_record
from ttt.run.exit_codes import ExitCode
from ttt.run.info import describe
from ttt.sinks.base import RunInfo, Sink
from ttt.storage.journal import read
from ttt.storage.read import read_config, read_results
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import read_environment


@dataclass(frozen=True)
class Rebuilt:
    """A run that is not running, and the tracker that will show it."""

    folder: Path
    info: RunInfo
    sink: Sink

    @classmethod
    def of(cls, folder: Path, *, logger: str | None, settings: Mapping[str, Any]) -> Rebuilt:
        """Read the run; `settings` go before those of its tracker.

        Raises ValueError in the user's words.
        """
        files_of = RunFolder(folder)
        if files_of.lock.is_taken():
            raise ValueError(f"{folder}: is running, and shows itself; sync it when it has ended")
        if not (files_of.results.is_file() and files_of.environment.is_file()):
            raise ValueError(f"{folder}: is not done; its own command resumes it, with its tracker")
        config = read_config(folder)
        typed = config.get("logger", {})
        name = logger or typed.get("name", "none")
        if name == "none":
            raise ValueError(f"{folder}: was run with logger=none; say which, as in --logger csv")
        # A run of an earlier version lacks the settings that came later.
        section = _option(name) | (typed if name == typed.get("name") else {}) | dict(settings)
        return cls(folder, _info(files_of, config), build(section, group="logger", given={}, trusted=()))

    def show(self) -> str | None:
        """Repeat the run for the tracker; return its line that says where to look."""
        numbers = {name: value for name, value in RunFolder(self.folder).status().items() if _is_number(value)}
        self.sink.start(self.info, past=self._events)
        for event in self._events():
            self.sink(event)
        return self.sink.finish(read_results(self.folder), numbers=numbers, exit_code=ExitCode.DONE)

    def _events(self) -> Iterator[Event]:
        return map(from_record, read(RunFolder(self.folder).metrics))


def loggers() -> list[str]:
    """The trackers of ttt."""
    names = (file.name for file in (files("ttt.conf") / "logger").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name != "none.yaml")


def _option(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((files("ttt.conf") / "logger" / f"{name}.yaml").read_text())
    return content


def _info(folder: RunFolder, config: Mapping[str, Any]) -> RunInfo:
    """Who the run is, as it said when it ran: its id is in the name of its folder."""
    recorded = read_environment(folder.environment)
    data = recorded["data"]["source"]
    info = describe(dict(config), data=data)
    run_id = folder.path.resolve().name.rpartition("-")[2]
    # Fingerprints of known texts and of published weights are in the name, and nowhere else.
    # Where the id comes out as it was, so does the group.
    group = info.group if identity(config, data=data)[:8] == run_id else info.group.rpartition("/")[0]
    method = info.name.partition("/")[0]
    return RunInfo(
        id=run_id,
        task=info.task,
        group=recorded.get("group", group),
        name=f"{method}/seed{config['seed']}-{run_id}",
        tags=info.tags,
        config=dict(config),
        folder=folder.path,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
