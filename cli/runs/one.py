"""One run, from a resolved config to its end: for the command, for its workers, and for Python."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from ttt.cli.announce import announce_folder, is_announced
from ttt.cli.runs.display import EVERYTHING, Display
from ttt.cli.runs.outcome import show_finished
from ttt.cli.runs.references import run_references
from ttt.cli.runs.screen import Screen
from ttt.cli.runs.torchrun import run_on_devices
from ttt.config.messages import UsageError
from ttt.devices.collective import decided
from ttt.devices.processes import is_first_here
from ttt.run.assemble import Assembly, assemble
from ttt.run.execute import execute
from ttt.run.exit_codes import ExitCode
from ttt.run.recall import Place, remember
from ttt.run.references import add_references, is_compared
from ttt.storage.reads import watched_reads
from ttt.storage.run_folder import RunFolder

LOOK_EVERY = 1.0


class Ended(NamedTuple):
    """A run that began: where its files are, and its exit code."""

    folder: RunFolder
    code: int


def start(
    config: dict[str, Any],
    *,
    trusted: list[Path],
    references: dict[str, Path] | None = None,
    display: Display = EVERYTHING,
) -> Ended:
    """Run `config`, go on with it, or show its result if it is done.

    `references`: folders of its reference runs, if these are done. Raises UsageError for a refusal.
    """
    try:
        assembly = _assembled(config, trusted=trusted)
        folder, world = RunFolder(assembly.info.folder), assembly.settings.world
        if config["references"] and references is None:
            references = _references(assembly, display)
        # What random weights score takes all processes to find.
        is_whole = folder.is_done() and (not references or is_compared(folder, references))
        announce_folder(folder.path, before=is_whole, code=assembly.code)
        if is_announced() and not is_whole:
            _wait_for_others(folder)
        if world.must_start and not is_whole:
            del assembly
            code = run_on_devices(config, trusted=trusted, processes=world.size, folder=folder, references=references)
            return Ended(folder, code)
        if world.must_start:
            show_finished(Screen(display).console, folder, code=assembly.code)
            return Ended(folder, ExitCode.DONE)
        fabric = assembly.settings.fabric()
        screen = Screen(display if fabric.is_global_zero else Display(quiet=True))
        # One process looks, and takes the folder; the others do what it decides.
        if decided(fabric, folder.is_done):
            if references:
                add_references(assembly, fabric, folder, screen, references)
            show_finished(screen.console, folder, code=assembly.code)
            return Ended(folder, ExitCode.DONE)
        decided(fabric, folder.open)
    except ValueError as error:
        raise UsageError(str(error)) from error
    # This stands outside of `try`: an error of a run that has begun is no refusal.
    outcome, results = execute(assembly, fabric, folder, screen, references or {})
    if fabric.is_global_zero:
        screen.ended(outcome, results, folder)
    return Ended(folder, outcome.code)


def _wait_for_others(folder: RunFolder) -> None:
    """Wait until no other process runs this run: a sweep takes it from there, or finds it done."""
    while folder.lock.is_taken():
        announce_folder(folder.path, before=False, waits=folder.lock.taken_by())
        time.sleep(LOOK_EVERY)
    announce_folder(folder.path, before=folder.is_done())


def _assembled(config: dict[str, Any], *, trusted: list[Path]) -> Assembly:
    """The run, built and checked; the first process notes where it lies, for the next time."""
    with watched_reads(cache=Path(config["cache_dir"]).expanduser().absolute()) as reads:
        assembly = assemble(config, trusted=trusted)
    if is_first_here():
        reads.cached.add(f"base/{assembly.base_id}")
        remember(config, Place(assembly.info.folder, assembly.code), reads=reads, trusted=trusted)
    return assembly


def _references(assembly: Assembly, display: Display) -> dict[str, Path]:
    """Run the references or find them, unless this is one process of several."""
    starter = assembly.settings.world.starter
    if starter is not None:
        raise ValueError(f"references=true: {starter} started several processes; first run the references without it")
    return run_references(assembly, Screen(display))
