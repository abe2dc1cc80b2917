"""`ttt.run`: the command `ttt-run`, called from Python."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from ttt.api.opened import Run
from ttt.cli.runs.check import check_command
from ttt.cli.runs.display import Display
from ttt.cli.runs.outcome import show_recalled
from ttt.cli.runs.parser import parse_command
from ttt.config.messages import UsageError
from ttt.run.compose import resolve
from ttt.run.exit_codes import ExitCode
from ttt.storage.run_folder import RunFolder

# What only the command does, and what to do instead.
OPTIONS = {"-m": "call ttt.run for each", "--multirun": "call ttt.run for each", "--study": "type ttt-run --study"}


class RunError(RuntimeError):
    """A run that began and did not finish; `code` is what the command would have ended with.

    What it measured is in `folder`; the same call goes on where that can be done.
    """

    def __init__(self, reason: str, *, folder: Path, code: int) -> None:
        super().__init__(f"{reason} (exit code {code}; files {folder})")
        self.folder, self.code = folder, code


def run(*overrides: str, seed: int | None = None, config_dir: str | Path | None = None, progress: bool = True) -> Run:
    """Run what `ttt-run OVERRIDES` runs, or go on with it, and return it; a finished run at once.

    `config_dir`: the folder of your own parts; `progress`: show what the command shows. Raises
    UsageError for wrong input, RunError for a run that stopped. Ctrl-C saves the run's state, then
    raises KeyboardInterrupt.
    """
    words = [*overrides, *([f"seed={seed}"] if seed is not None else [])]
    for word in words:
        if word in OPTIONS:
            raise UsageError(f"{word}: ttt.run is one run; {OPTIONS[word]}")
    config = resolve(check_command(parse_command([*_places(config_dir), *words])))
    trusted = [Path(config_dir).resolve()] if config_dir else []
    # The user's own parts are imported by the names that their YAML gives.
    sys.path.extend(str(path) for path in trusted if str(path) not in sys.path)
    display = Display(quiet=not progress)
    place = show_recalled(config, trusted=trusted, display=display)
    if place is not None:
        if place.is_of_other_code and not progress:
            warnings.warn(f"{place.folder}: was measured with other code; delete it to measure again", stacklevel=2)
        return Run(place.folder, tuple(trusted))
    # Imported here: a typo, and a run that is done, need no torch.
    from ttt.cli.runs.one import start

    # The folder is returned even where the run did not finish: what it measured is there.
    ended = start(config, trusted=trusted, display=display)
    if ended.code == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if ended.code != ExitCode.DONE:
        raise RunError(_why(ended.folder), folder=ended.folder.path, code=ended.code)
    return Run(ended.folder.path, tuple(trusted))


def _places(config_dir: str | Path | None) -> list[str]:
    return ["--config-dir", str(config_dir)] if config_dir else []


def _why(folder: RunFolder) -> str:
    return str(folder.status().get("reason") or "the run stopped")
