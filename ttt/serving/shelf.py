"""What the readers of many sessions remember: in memory within a budget, the others on the disk.

    FOLDER/sessions.json               which file holds which session; they count when it is written
    FOLDER/3c9e...-00000000512.safetensors     one session after 512 tokens

A session that comes back from the disk is equal to the bit.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ttt.adapters.base import ordered
from ttt.serving.lanes import Lane, is_memory, size_of
from ttt.serving.session import TextSession
from ttt.serving.state_file import Owner, Saved, read_state, write_state
from ttt.storage.files import remove_unfinished, write_json

INDEX = "sessions.json"
WRITING, PLAIN = "writing.", "plain."


class Lanes(NamedTuple):
    """What two readers remember: one writes while it reads, the other does not (None: no other)."""

    writing: Lane
    plain: Lane | None

    @property
    def size(self) -> int:
        """Bytes. Fast weights that are never written are shared by all sessions."""
        return size_of(self.writing) + size_of(_not_memory(self.plain or {}))

    def tensors(self) -> dict[str, Tensor]:
        """All that differs from session to session, under one set of names."""
        writing = {WRITING + name: x for name, x in self.writing.items()}
        return writing | {PLAIN + name: x for name, x in _not_memory(self.plain or {}).items()}


@dataclass(frozen=True)
class Form:
    """What every state of these readers shares: the empty one, whose it is, and the settings."""

    empty: Lanes
    owner: Owner
    settings: Mapping[str, Any]

    def write(self, path: Path, session: TextSession, lanes: Lanes, extra: Mapping[str, Any] | None = None) -> None:
        content = {"name": session.name, "extra": dict(extra or {}), **session.as_json()}
        write_state(path, Saved(lanes.tensors(), self.settings, content), owner=self.owner)

    def read(self, path: Path) -> tuple[dict[str, Any], Lanes]:
        """A session's content and lanes. Raises ValueError where they do not fit these readers."""
        saved = read_state(path, owner=self.owner)
        for key, here in self.settings.items():
            if saved.settings.get(key) != here:
                words = (f"{key}={json.dumps(value)}" for value in (saved.settings.get(key), here))
                raise ValueError(f"{path}: saved with {', not '.join(words)}")
        if saved.tensors.keys() != self.empty.tensors().keys():
            odd = sorted(saved.tensors.keys() ^ self.empty.tensors().keys())[0]
            raise ValueError(f"{path}: made by other code: {odd} is only in one of them")
        return saved.session, self._lanes(ordered(saved.tensors, like=self.empty.tensors()))

    def _lanes(self, tensors: Mapping[str, Tensor]) -> Lanes:
        device = next((x.device for x in self.empty.writing.values()), torch.device("cpu"))
        parts = [
            {name.removeprefix(prefix): x.to(device) for name, x in tensors.items() if name.startswith(prefix)}
            for prefix in (WRITING, PLAIN)
        ]
        # Fast weights that are never written are not in the file: all sessions share them.
        plain = None if self.empty.plain is None else self.empty.plain | parts[1]
        return Lanes(parts[0], plain)


class Shelf:
    """`budget`: bytes that lanes may take in memory. `folder` holds the others."""

    def __init__(self, form: Form, *, folder: Path, budget: int) -> None:
        folder.mkdir(exist_ok=True)
        self._form, self._folder, self._budget = form, folder, budget
        # Those used last stand at the end.
        self._lanes: OrderedDict[str, Lanes] = OrderedDict()
        self._size = 0
        self._files: dict[str, str] = {}

    def take(self, session: TextSession) -> Lanes:
        """The lanes of a session, which leave the shelf."""
        lanes = self._lanes.pop(session.name, None)
        if lanes is not None:
            self._size -= lanes.size
            return lanes
        file = self._files.get(session.name)
        return self._form.empty if file is None else self._form.read(self._folder / file)[1]

    def put(self, session: TextSession, lanes: Lanes) -> None:
        self._lanes[session.name] = lanes
        self._size += lanes.size

    def keep_budget(self, sessions: Mapping[str, TextSession]) -> None:
        """Move the lanes that were not used for longest to the disk, until the others fit."""
        while self._size > self._budget and self._lanes:
            # The first is the one that has waited longest.
            name, lanes = self._lanes.popitem(last=False)
            self._size -= lanes.size
            self._write(sessions[name], lanes)

    @property
    def in_memory(self) -> int:
        """The bytes of all lanes in memory."""
        return self._size

    def save(self, sessions: Mapping[str, TextSession], extra: Mapping[str, Any]) -> None:
        """Make what all sessions are now the state of the folder; until then the old one counts."""
        for name, lanes in self._lanes.items():
            self._write(sessions[name], lanes)
        # The index last: the files that it names are whole by then.
        files = {name: self._files[name] for name in sessions if name in self._files}
        write_json(self._folder / INDEX, {"sessions": files, "extra": dict(extra)})
        # Older states, and those that a killed command wrote and never named.
        for path in self._folder.glob("*.safetensors"):
            if path.name not in set(files.values()):
                path.unlink()

    def load(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Every session's content by name, and what `save` got as extra; empty for a new folder."""
        remove_unfinished(self._folder)
        if not (self._folder / INDEX).is_file():
            return {}, {}
        try:
            content = json.loads((self._folder / INDEX).read_bytes())
            self._files = dict(content["sessions"])
            extra = dict(content["extra"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._folder / INDEX}: damaged ({error})") from error
        return {name: self._form.read(self._folder / file)[0] for name, file in self._files.items()}, extra

    def _write(self, session: TextSession, lanes: Lanes) -> None:
        # A session may have any name, a file may not.
        digest = hashlib.sha256(session.name.encode()).hexdigest()[:16]
        file = f"{digest}-{session.meter.read:012d}.safetensors"
        # A session that has read nothing since it was written is on the disk already.
        if self._files.get(session.name) != file:
            self._form.write(self._folder / file, session, lanes)
            self._files[session.name] = file


def _not_memory(lane: Lane) -> Lane:
    return {name: x for name, x in lane.items() if not is_memory(name)}
