"""Find the folder of a run again from its composed config, without building anything.

    ~/.cache/ttt/runs/3f0c9a....json   {"folder": "outputs/...", "code": ..., "reads": {...}}

The name of the folder follows from the config, the code, and the data. To compute it takes torch,
the source and the model. So every run leaves a note, under a hash of its config, of the code and of
what was read; while all that is unchanged, the folder is the same. Loads no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from ttt.config.identity import NOT_IDENTITY, NOT_IDENTITY_TRAINER, digest
from ttt.devices.processes import several_started
from ttt.storage.files import write_bytes
from ttt.storage.reads import Reads, stamp
from ttt.storage.run_folder import RunFolder

NOTES = "runs"
# What these sections build reads the data. A class of the user's own may read in ways unseen here.
READING = ("task", "source", "base_source")

ROOTS = tuple(os.path.join(str(files(package)), "") for package in ("ttt", "ttt.tasks", "ttt.kernels"))


class Place(NamedTuple):
    """Where a run lies; `code`: the hash of the code that it would be run with now."""

    folder: Path
    code: str

    @property
    def is_of_other_code(self) -> bool:
        """Was the run measured with other code? Then its numbers may be others now."""
        return RunFolder(self.folder).recorded_code() != self.code


def remember(config: Mapping[str, Any], place: Place, *, reads: Reads, trusted: Sequence[Path]) -> None:
    """Leave a note of the place of a run; `config` as it was composed.

    Data that came over the network may be another tomorrow: then the note only says what the run
    has in the cache.
    """
    is_seen = all(target.startswith("ttt.") for key in READING for target in _targets(config.get(key)))
    stamps = reads.stamps | {str(path): stamp(str(path)) for path in _modules(config, trusted)}
    # Files of ours that were read are in CODE.
    stamps = {path: value for path, value in stamps.items() if not path.startswith(ROOTS)}
    content = {
        "folder": str(place.folder),
        "absolute": str(place.folder.absolute()),
        "run_code": place.code,
        "code": CODE,
        "reads": stamps if is_seen and not reads.asked_network else None,
        "cached": sorted(reads.cached),
    }
    note = _note(config, trusted)
    # A note saves time and nothing else: without one the run is found the long way.
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(note, json.dumps(content).encode())


def recall(config: Mapping[str, Any], *, trusted: Sequence[Path]) -> Place | None:
    """Where the run of this config lies; None where that is not certain."""
    try:
        note = json.loads(_note(config, trusted).read_bytes())
        # Stamps are taken from sizes and times: reading all the data again would take too long.
        unchanged = all(stamp(path) == before for path, before in note["reads"].items())
        return Place(Path(note["folder"]), note["run_code"]) if unchanged and note["code"] == CODE else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def recall_done(config: Mapping[str, Any], *, trusted: Sequence[Path]) -> Place | None:
    """The same for a run that is done and has nothing to add."""
    # Published values are checked where a run is built; several processes decide together.
    is_plain = not (config["references"] or config.get("published") or several_started())
    place = recall(config, trusted=trusted) if is_plain else None
    folder = RunFolder(place.folder) if place else None
    return place if folder and folder.is_done() and folder.results.is_file() else None


def _note(config: Mapping[str, Any], trusted: Sequence[Path]) -> Path:
    """The file of the note: one for each config, on each machine, typed in each folder."""
    # Paths in the config may be relative, and `auto` means something else on another machine.
    here = {
        "cwd": str(Path.cwd()),
        "host": socket.gethostname(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "python": [sys.version, sys.prefix],
        "trusted": [str(path.resolve()) for path in trusted],
    }
    content = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    devices = {*NOT_IDENTITY_TRAINER} - {"accelerator"}
    content["trainer"] = {key: value for key, value in config["trainer"].items() if key not in devices}
    name = digest({"config": content, "output_dir": config["output_dir"], **here})
    return Path(config["cache_dir"]).expanduser() / NOTES / f"{name[:32]}.json"


def _targets(section: Any) -> Iterator[str]:
    """Every `_target_` in a section, at any depth."""
    if isinstance(section, Mapping):
        yield from (value for key, value in section.items() if key == "_target_")
        for value in section.values():
            yield from _targets(value)


def _modules(config: Mapping[str, Any], trusted: Sequence[Path]) -> Iterator[Path]:
    """The files of the user's own modules that were imported."""
    folders = [path.resolve() for path in trusted]
    proposes = str(config["adapter"].get("propose")).partition(":")[0]
    for name, module in sorted(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/").resolve()
        if name == proposes or any(folder in file.parents for folder in folders):
            yield file


def _code_stamp() -> str:
    """A hash over the sizes and times of all files of this package that a run is made of."""
    content = hashlib.sha256()
    for root in ROOTS:
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for file in sorted(names):
                path = os.path.join(folder, file)
                content.update(f"{path} {stamp(path)}\n".encode())
    return content.hexdigest()


# Taken when this module is loaded, like the rest of the code: a process that was started before an
# edit runs what was there before it.
CODE = _code_stamp()
