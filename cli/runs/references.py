"""`references=true`: runs the references of a run, or finds them, each as a process of its own.

The process reads its config from a file: {"config": {...}, "trusted": ["/home/me/mine"]}
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ttt.cli.sweeps.job import reason
from ttt.devices.one_device import Devices
from ttt.results.results import Results, from_json
from ttt.run.assemble import Assembly, describe
from ttt.run.references import STRATEGIES, Values, config_of, untrained, values
from ttt.storage.files import write_json
from ttt.storage.journal import plain
from ttt.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from ttt.cli.runs.screen import Screen

LOOK_EVERY = 1.0


def run_references(assembly: Assembly, screen: Screen) -> dict[str, Path]:
    """The folders of those that are done. One that fails costs the metrics that need it, not the run."""
    found = {}
    for name in STRATEGIES:
        config = config_of(name, assembly.config)
        folder = RunFolder(describe(config, data=assembly.source.fingerprint).folder)
        why = _run(name, config, assembly.trusted, folder, screen)
        if why:
            screen.note(f"reference {name} failed: {why}; metrics that need it are not measured")
        else:
            found[name] = folder.path
    return found


def _run(name: str, config: dict[str, Any], trusted: Sequence[Path], folder: RunFolder, screen: Screen) -> str:
    """Why it failed; empty if it is done."""
    start = time.monotonic()
    if folder.status().get("status") == "done":
        screen.note(f"reference {name}: found in {folder.path}")
        return ""
    screen.note(f"reference {name}: runs in {folder.path}")
    while folder.is_taken():
        # Another run of a sweep has the same reference, and is at it.
        time.sleep(LOOK_EVERY)
    with TemporaryDirectory(prefix="ttt-") as work:
        order, log = Path(work) / "run.json", Path(work) / "log"
        order.write_text(json.dumps({"config": config, "trusted": [str(path) for path in trusted]}))
        with log.open("w") as output:
            command = [sys.executable, "-m", "ttt.cli.runs.references", str(order)]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False)
        said = reason(log.read_text(errors="replace"))
    if folder.is_taken():
        # It was faster.
        return _run(name, config, trusted, folder, screen)
    if folder.status().get("status") != "done":
        return said
    screen.note(f"reference {name}: done in {time.monotonic() - start:.0f} s")
    return ""


def is_compared(folder: RunFolder, references: Mapping[str, Path]) -> bool:
    """Does a run that is done hold what these references, and random weights, score?"""
    stored = _stored(folder).references
    return "untrained" in stored and plain(stored) == plain(values(references) | {"untrained": stored["untrained"]})


def add_references(assembly: Assembly, fabric: Devices, folder: RunFolder, references: Mapping[str, Path]) -> None:
    """Fill in what a run that is already done can be compared with."""
    results = _stored(folder)
    before = plain(results.references)
    results.references = measured(assembly, fabric, references, before=results.references)
    if fabric.is_global_zero and plain(results.references) != before:
        write_json(folder.results, results.as_json())


def measured(
    assembly: Assembly, fabric: Devices, references: Mapping[str, Path], *, before: Values | None = None
) -> Values:
    """What the references in these folders, and random weights, score. `before`: what was already measured; random
    weights score the same again."""
    known = (before or {}).get("untrained")
    return values(references) | {"untrained": known or untrained(assembly, fabric)}


def _stored(folder: RunFolder) -> Results:
    return from_json(json.loads(folder.results.read_text()))


def main(arguments: Collection[str]) -> None:
    """The process of one reference."""
    from ttt.cli.run import complain, run_one
    from ttt.cli.runs.check import UsageError

    (file,) = arguments
    content = json.loads(Path(file).read_text())
    trusted = [Path(path) for path in content["trusted"]]
    sys.path.extend(str(path) for path in trusted)
    try:
        sys.exit(run_one(content["config"], trusted=trusted))
    except UsageError as error:
        sys.exit(complain(error))


if __name__ == "__main__":
    main(sys.argv[1:])
