"""`references=true`: run the references of a run, or find them, each as a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from ttt.cli.runs.torchrun import write_order
from ttt.run.assemble import Assembly
from ttt.run.info import describe
from ttt.run.published import weights_of
from ttt.run.references import STRATEGIES, config_of
from ttt.run.watcher import Watcher
from ttt.storage.run_folder import RunFolder

LOOK_EVERY = 1.0


def run_references(assembly: Assembly, watcher: Watcher) -> dict[str, Path]:
    """The folders of the references that are done.

    One that fails costs the metrics that need it, not the run.
    """
    folders = {}
    for name in STRATEGIES:
        reference = Reference(name, assembly, watcher)
        why = reference.run()
        if why:
            watcher.note(f"reference {name} failed: {why}; metrics that need it are not measured")
        else:
            folders[name] = reference.folder.path
    return folders


class Reference:
    """One reference of a run: same budget and seed, another strategy, in a folder of its own."""

    def __init__(self, name: str, assembly: Assembly, watcher: Watcher) -> None:
        self.name, self._watcher, self._trusted = name, watcher, assembly.trusted
        self._config = config_of(name, assembly.config)
        self.folder = RunFolder(
            describe(self._config, data=assembly.data, weights=weights_of(assembly.learner.model)).folder
        )

    def run(self) -> str:
        """Run it, unless it is done; return why it failed, empty if it is done."""
        start = time.monotonic()
        if self.folder.is_done():
            self._watcher.note(f"reference {self.name}: found in {self.folder.path}")
            return ""
        self._watcher.note(f"reference {self.name}: runs in {self.folder.path}")
        if self.folder.lock.is_taken():
            # Another run of a sweep is running it, or died on another host.
            self._watcher.note(f"reference {self.name}: waits, as {self.folder.lock.taken_by()}")
        while self.folder.lock.is_taken():
            time.sleep(LOOK_EVERY)
        last_line = self._start()
        if self.folder.lock.is_taken():
            # That other run was faster.
            return self.run()
        if not self.folder.is_done():
            return str(self.folder.status().get("reason") or last_line)
        self._watcher.note(f"reference {self.name}: done in {time.monotonic() - start:.0f} s")
        return ""

    def _start(self) -> str:
        """Run the process to its end; return the last line that it wrote."""
        with TemporaryDirectory(prefix="ttt-") as work:
            log = Path(work) / "log"
            order = write_order(Path(work), self._config, trusted=self._trusted, references={}, rank=False)
            with log.open("w") as output:
                command = [sys.executable, "-m", "ttt.cli.worker", str(order)]
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False)
            lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("ttt-run: ") if lines else "no output"
