"""One text that goes on: how far it is read, what waits to be read, and how it was predicted."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ttt.serving.coder import Coder, Piece, TextPlace
from ttt.serving.meter import Meter
from ttt.stream import Ints


@dataclass(frozen=True)
class TextBlock:
    """Tokens to score, with their bytes; `last` is before them, None where a text begins."""

    tokens: Ints
    sizes: Ints
    last: int | None

    @property
    def inputs(self) -> Ints:
        """What is read: the token before each one that is scored."""
        return self._line()[:-1]

    @property
    def targets(self) -> Ints:
        return self._line()[1:]

    @property
    def bytes(self) -> int:
        """The bytes of the tokens that are scored."""
        return int(self.sizes[len(self.sizes) - len(self.targets) :].sum())

    def _line(self) -> Ints:
        return self.tokens if self.last is None else np.concatenate([[self.last], self.tokens])


@dataclass
class TextSession:
    """A text by its name. `last`: its newest token, which is scored but not read yet.

    `place`: where its first unread token lies; what comes again of the text before is passed over.
    """

    name: str
    new_coder: Callable[[TextPlace], Coder]
    last: int | None = None
    place: TextPlace = field(default_factory=TextPlace)
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._coder, self._read_before = self.new_coder(self.place), self.place
        self._passed, self._digest = 0, 0
        self._pieces: deque[Piece] = deque()
        self.waiting = 0

    def append(self) -> None:
        """What is fed from here on is new text, behind what was read."""
        self.place = TextPlace()
        self._begin()

    def feed(self, data: bytes) -> None:
        """Take more of the text. Raises ValueError where it is not what was read before."""
        # The part that was read before only has to be recognised.
        head = data[: self._read_before.start - self._passed]
        if head:
            self._passed, self._digest = self._passed + len(head), zlib.crc32(head, self._digest)
            if self._passed == self._read_before.start and self._digest != self._read_before.digest:
                raise ValueError(
                    f"{self.name}: not the text that its state has read (the first {self._passed:,} bytes)"
                )
        self._queue(data[len(head) :])

    def end(self) -> None:
        """The text is over: what was held back can be read."""
        if self._passed < self._read_before.start:
            raise ValueError(
                f"{self.name}: ends at byte {self._passed:,}, and its state has read {self._read_before.start:,} bytes"
            )
        self._take_in(self._coder.close)

    def _queue(self, data: bytes) -> None:
        if data:
            self._take_in(lambda: self._coder.feed(data))

    def _take_in(self, pieces: Callable[[], list[Piece]]) -> None:
        try:
            new = pieces()
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        self._pieces.extend(new)
        self.waiting += sum(len(piece.tokens) for piece in new)

    def next_block(self, size: int) -> TextBlock:
        """Take the next `size` tokens, or those that there are."""
        tokens, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        missing = size
        while self._pieces and missing:
            first, rest = self._pieces.popleft().cut(missing)
            tokens.append(first.tokens)
            sizes.append(first.sizes)
            missing -= len(first.tokens)
            self.place = rest.place
            # The rest of a piece stays first in line.
            if len(rest.tokens):
                self._pieces.appendleft(rest)
        block = TextBlock(np.concatenate(tokens), np.concatenate(sizes), self.last)
        self.waiting -= len(block.tokens)
        self.last = int(block.tokens[-1])
        return block

    def as_json(self) -> dict[str, Any]:
        """All that a state file must know to go on."""
        return {"last": self.last, "place": asdict(self.place), "meter": self.meter.as_json()}

    @classmethod
    def from_json(cls, name: str, content: dict[str, Any], *, new_coder: Callable[[TextPlace], Coder]) -> TextSession:
        meter, place = Meter.from_json(content["meter"]), TextPlace(**content["place"])
        return cls(name, new_coder, content["last"], place, meter)
