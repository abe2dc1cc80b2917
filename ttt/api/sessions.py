"""Texts that go on, from Python: many sessions, each with fast weights of its own."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ttt.api.opened import Run
from ttt.cli.streaming.opening import Start, open_reading
from ttt.config.messages import UsageError
from ttt.learner import Sampling
from ttt.serving.meter import Score
from ttt.serving.readers import Readers, Storage
from ttt.serving.rules import ReadingRules
from ttt.serving.upkeep import Upkeep


class Sessions:
    """Sessions by their names, read with a run's model, which learns while it reads.

    `state`: a folder from which sessions go on, and where `save` keeps them. `block`: tokens read
    at once; `lanes`: sessions read side by side; `context`: tokens that attention sees. `start`:
    `initial` or `carried` fast weights; `decay`, `max_norm`, `reset`: what happens to them after
    a block. Idle sessions go to the disk above `memory` MB. Wrong input raises UsageError.
    """

    def __init__(
        self,
        run: Run | str | Path,
        *,
        state: str | Path | None = None,
        block: int = 256,
        lanes: int = 8,
        context: int | None = None,
        start: Start = "initial",
        decay: float = 1.0,
        max_norm: float | None = None,
        reset: int | None = None,
        memory: float = 1000.0,
        config_dir: str | Path | None = None,
    ) -> None:
        self._keeps = state is not None
        place = Path(tempfile.mkdtemp(prefix="ttt-sessions-") if state is None else state)
        if state is None:
            # Removed with the object; a context manager would be one more thing to remember.
            weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
        storage = Storage(place, int(memory * 1e6))
        folder = run.folder if isinstance(run, Run) else Path(run)
        # A run knows from where its own parts came.
        places = [Path(config_dir)] if config_dir is not None else [*(run.trusted if isinstance(run, Run) else ())]
        try:
            rules = ReadingRules(block=block, lanes=lanes, plain=False, upkeep=Upkeep(decay, max_norm, reset))
            self._opened = open_reading(folder, (), context=context, config_dir=next(iter(places), None))
            self._readers: Readers = self._opened.sessions(rules, start=start, storage=storage)
            # What is read from here on is new text: nobody feeds the old one again.
            if state is not None:
                self._readers.load(append=True)
        except ValueError as error:
            raise UsageError(str(error)) from error

    @property
    def names(self) -> list[str]:
        """All sessions that have read something."""
        return list(self._readers.sessions)

    def read(self, texts: Mapping[str, str | bytes]) -> dict[str, float | None]:
        """Read on in each session, side by side: session -> bits per byte of what was read.

        Each token is scored before it is read; None where none was scored.
        """
        # Copies: the sums themselves grow while it reads.
        before = {name: replace(self._score(name)) for name in texts}
        try:
            for name, text in texts.items():
                self._readers.feed(name, text.encode() if isinstance(text, str) else text)
            # Whoever calls wants the numbers of this text now, not when a block is full.
            for name in texts:
                self._readers.end(name)
            self._readers.drain()
        except ValueError as error:
            raise UsageError(str(error)) from error
        return {name: self._score(name).since(before[name]).bits for name in texts}

    def generate(
        self,
        session: str,
        prompt: str = "",
        *,
        tokens: int = 100,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | None = None,
        seed: int = 0,
    ) -> str:
        """Read `prompt` in a session, then write on; it learns from both.

        By default the likeliest tokens; `stop`: a token that ends the text.
        """
        if prompt:
            self.read({session: prompt})
        try:
            ends = () if stop is None else (self._opened.token(stop),)
            sampling = Sampling(temperature, top_k, top_p, ends, seed)
            return self._opened.text(self._readers.generate(session, tokens=tokens, sampling=sampling))
        except ValueError as error:
            raise UsageError(str(error)) from error

    def save(self) -> None:
        """Keep all sessions in the folder `state`, whole or not at all."""
        if not self._keeps:
            raise UsageError("save: needs a folder; give ttt.Sessions(..., state=FOLDER)")
        self._readers.save({})

    def _score(self, name: str) -> Score:
        sessions = self._readers.sessions
        return sessions[name].meter.total if name in sessions else Score()
