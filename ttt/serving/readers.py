"""Many texts that go on, each with fast weights of its own, read as lanes of one batch.

Every token is scored before it is read, so a block is scored before anything learns from it. Which
sessions are read together depends on how much text has come, never on what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt.adapters.base import FastState
from ttt.config.messages import suggest
from ttt.learner import Learner, Sampling
from ttt.serving.checks import check_attention
from ttt.serving.coder import Coder, TextPlace
from ttt.serving.lanes import Lane, empty_lane, is_memory
from ttt.serving.meter import Score
from ttt.serving.reading import listen, read_blocks, speak
from ttt.serving.rules import Event, EventKind, ReadingRules
from ttt.serving.session import TextBlock, TextSession
from ttt.serving.shelf import Form, Lanes, Shelf
from ttt.serving.state_file import Owner

AfterRound = Callable[[Sequence[Event]], None]


@dataclass(frozen=True)
class Storage:
    """Where the lanes of idle sessions go when all together exceed `budget` bytes of memory."""

    folder: Path
    budget: int


class Readers:
    """The readers of sessions, which have names. `start`: what fast weights begin with.

    `after_round` is called with the events of every round, when all sessions are at rest.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        new_coder: Callable[[TextPlace], Coder],
        owner: Owner,
        rules: ReadingRules,
        start: FastState,
        storage: Storage,
        after_round: AfterRound = lambda events: None,
    ) -> None:
        self._learner, self._new_coder, self.rules = learner.eval(), new_coder, rules
        writing = empty_lane(learner, start, write=True)
        # What a reader keeps is known only once it has read.
        check_attention(learner, writing)
        compares = rules.plain and any(is_memory(name) for name in writing)
        self.form = Form(
            Lanes(writing, empty_lane(learner, start, write=False) if compares else None), owner, rules.settings
        )
        self._shelf = Shelf(self.form, folder=storage.folder, budget=storage.budget)
        self._after_round = after_round
        self.sessions: dict[str, TextSession] = {}
        self._ended: set[str] = set()
        self._records, self._replayed = 0, 0

    @property
    def in_memory(self) -> int:
        """The bytes of all fast weights and attention that are in memory."""
        return self._shelf.in_memory

    def named(self, name: str) -> TextSession:
        """A session. Raises ValueError, with the nearest name, for one that there is not."""
        if name not in self.sessions:
            raise ValueError(f"session {name!r}: unknown; {suggest(name, self.sessions)}")
        return self.sessions[name]

    def feed(self, name: str, data: bytes) -> None:
        """Take more text of a session, which begins if it is new, and read what is due.

        Raises ValueError for what is no text, or not the text that was read before.
        """
        if name not in self.sessions:
            self.sessions[name] = TextSession(name, self._new_coder)
        # A text that was over goes on: its next block waits until it is full again.
        self._ended.discard(name)
        self.sessions[name].feed(data)
        self._go_on()

    def end(self, name: str) -> None:
        """The text of a session is over: what is left of it may be read as a shorter block."""
        self.named(name).end()
        self._ended.add(name)
        self._go_on()

    def finish(self) -> None:
        """End all sessions, and read everything that waits."""
        for name, session in self.sessions.items():
            if name not in self._ended:
                session.end()
                self._ended.add(name)
        self.drain()
        # Once more, also where nothing was left to read: whoever listens hears that it is the end.
        self._after_round([event for name in self.sessions for event in self._closing(self.sessions[name])])

    def drain(self) -> None:
        """Read every block that waits, and what is left of texts that are over."""
        while self._ready():
            self._round()

    def generate(self, name: str, *, tokens: int, sampling: Sampling) -> list[int]:
        """Write behind what a session has read; it reads, and learns from, its own words.

        Raises ValueError for a session that is unknown, or has read nothing.
        """
        session = self.named(name)
        if session.last is None:
            raise ValueError(f"session {name!r}: has read nothing to go on from")
        if tokens < 1:
            raise ValueError(f"tokens={tokens}: must be at least 1")
        lanes = self._shelf.take(session)
        written, writing = speak(self._learner, lanes.writing, last=session.last, tokens=tokens, sampling=sampling)
        plain = lanes.plain
        if plain is not None:
            plain = self._unwritten(listen(self._learner, plain, tokens=[session.last, *written[:-1]]))
        # The newest token waits, as everywhere: it is read with what comes next.
        session.last = written[-1]
        session.meter.read += len(written)
        self._shelf.put(session, Lanes(writing, plain))
        return written

    def save(self, extra: Mapping[str, Any]) -> None:
        """Keep all sessions in the folder, with `extra`."""
        self._shelf.save(self.sessions, {"records": self._records, **extra})

    def load(self, *, append: bool) -> dict[str, Any]:
        """Take the sessions that the folder holds, and return what `save` got as extra.

        They go on where they were when the same text is fed again; with `append`, with new text.
        Raises ValueError for files that are damaged, or the state of other readers.
        """
        contents, extra = self._shelf.load()
        for name, content in contents.items():
            self._take(name, content, append=append)
        # New text has no rounds that could be the same.
        self._replayed = 0 if append else extra.get("records", 0)
        return extra

    def write_file(self, path: Path, name: str, extra: Mapping[str, Any]) -> None:
        """Write one session as a file of its own."""
        session = self.sessions[name]
        # From the disk, if it was moved there.
        lanes = self._shelf.take(session)
        self.form.write(path, session, lanes, extra)
        self._shelf.put(session, lanes)

    def read_file(self, path: Path, name: str, *, append: bool) -> dict[str, Any]:
        """Take the session in a file under this name, and return the extra that is with it."""
        content, lanes = self.form.read(path)
        self._take(name, content, append=append)
        self._shelf.put(self.sessions[name], lanes)
        extra: dict[str, Any] = content["extra"]
        return extra

    def _take(self, name: str, content: dict[str, Any], *, append: bool) -> None:
        self.sessions[name] = TextSession.from_json(name, content, new_coder=self._new_coder)
        if append:
            self.sessions[name].append()

    def _go_on(self) -> None:
        self._records += 1
        # After a break: no round before as much was fed as then, so that rounds are the same ones.
        while self._records >= self._replayed and self._is_due():
            self._round()

    def _ready(self) -> list[TextSession]:
        """The sessions that have a block to read, or the rest of their text."""
        least = {True: 1, False: self.rules.block}
        return [x for name, x in self.sessions.items() if x.waiting >= least[name in self._ended]]

    def _is_due(self) -> bool:
        """Are all lanes taken, or does one session wait with more than it can read at once?"""
        ready = self._ready()
        return len(ready) >= self.rules.lanes or any(x.waiting >= 2 * self.rules.block for x in ready)

    def _round(self) -> None:
        """Read a block of each of those sessions that have read least."""
        # An order that follows from what is saved, so that it is the same after a break.
        sessions = sorted(self._ready(), key=lambda x: (x.meter.read, x.name))[: self.rules.lanes]
        blocks = [session.next_block(self.rules.block) for session in sessions]
        lanes = [self._shelf.take(session) for session in sessions]
        events: list[Event] = []
        for session, block, (score, after) in zip(sessions, blocks, self._read(blocks, lanes), strict=True):
            before = session.meter.read
            writing, norm = self.rules.upkeep.after_block(
                after.writing, start=self.form.empty.writing, before=before, after=before + len(block.tokens)
            )
            self._shelf.put(session, Lanes(writing, after.plain))
            events += self._measured(session, block, score, norm=norm)
        # Not within the round, whose lanes must all be in memory.
        self._shelf.keep_budget(self.sessions)
        self._after_round(events)

    def _read(self, blocks: Sequence[TextBlock], lanes: Sequence[Lanes]) -> list[tuple[Score, Lanes]]:
        """The score of each block, and the lanes that have read it."""
        nats, writing = read_blocks(self._learner, blocks, [x.writing for x in lanes], write=True)
        scores = [Score(len(block.targets), block.bytes, n) for block, n in zip(blocks, nats, strict=True)]
        # Without fast weights there is nothing to compare: both readings would be one.
        silent = [x.plain for x in lanes if x.plain is not None]
        if not silent:
            return [(score, Lanes(lane, None)) for score, lane in zip(scores, writing, strict=True)]
        plain_nats, plain = read_blocks(self._learner, blocks, silent, write=False)
        for score, n in zip(scores, plain_nats, strict=True):
            score.plain = n
        both = (Lanes(lane, self._unwritten(other)) for lane, other in zip(writing, plain, strict=True))
        return list(zip(scores, both, strict=True))

    def _unwritten(self, lane: Lane) -> Lane:
        """A lane that was read without writes: its fast weights are those of every new session."""
        assert self.form.empty.plain is not None
        return {name: self.form.empty.plain[name] if is_memory(name) else x for name, x in lane.items()}

    def _measured(self, session: TextSession, block: TextBlock, score: Score, *, norm: float) -> list[Event]:
        """Note the score of a block, and return what is to be said about it."""
        meter = session.meter
        meter.add(score, tokens=len(block.tokens), size=int(block.sizes.sum()), norm=norm)
        events = [self._event("norm", session, score)] if meter.usual.leaves(norm) else []
        if meter.blocks >= self.rules.window:
            events.append(self._event("window", session, meter.close_window()))
        return events

    def _closing(self, session: TextSession) -> list[Event]:
        """The last window of a session, and its score as a whole."""
        is_open = session.meter.blocks > 0
        rest = [self._event("window", session, session.meter.close_window())] if is_open else []
        return [*rest, self._event("end", session, session.meter.total)]

    def _event(self, kind: EventKind, session: TextSession, score: Score) -> Event:
        return Event(kind, session.name, session.meter.read, session.meter.size, score, session.meter.norm)
