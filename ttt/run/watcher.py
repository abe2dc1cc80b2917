"""What looks on while a run runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import torch

from ttt.results.events import Event, Notice
from ttt.run.assemble import Assembly
from ttt.storage.run_folder import RunFolder


class Watcher(Protocol):
    """Whoever looks on: the screen of the command, or nobody.

    It hears every event, and only reads.
    """

    def announce(self, assembly: Assembly, folder: RunFolder, device: torch.device) -> None:
        """Called before anything is trained."""
        ...

    def live(self, assembly: Assembly) -> AbstractContextManager[None]:
        """Show progress while open."""
        ...

    def note(self, line: str) -> None: ...

    def __call__(self, event: Event | Notice) -> None: ...
