"""The Universal Declaration of Human Rights in over 500 languages, as UTF-8 bytes.

    English    ...Article 1\\nAll human beings are born free and equal in dignity and rights. They are...
    Bulu       ...ATYIÑ ÔSU\\nBôt bese be ne abialé été fili a ekokomba...

A class is one text of about 12 kB. Provenance and licence: tasks/data/README.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ttt.stream import Batch, whole_rows

DATA = Path(__file__).parent / "data" / "languages.parquet"
# A text below this size has too little for a train and an eval part.
MIN_BYTES = 6000


class Languages:
    """One class per text; the last `eval_share` of each text, from a line break on, is its eval part."""

    vocab_size = 256

    def __init__(self, *, name: str, eval_share: float, cache_dir: str) -> None:
        if not 0 < eval_share < 1:
            raise ValueError(f"source.eval_share={eval_share}: must lie between 0 and 1")
        self.name = name
        self.fingerprint = hashlib.sha256(DATA.read_bytes() + str(eval_share).encode()).hexdigest()
        rows = _load(cache_dir)
        self._names = [f"{row['code']} {row['name']}" for row in rows]
        self._groups = [row["group"] for row in rows]
        texts = [np.frombuffer(row["text"].encode("utf-8"), dtype=np.uint8) for row in rows]
        self._bytes = np.concatenate(texts)
        self._start = np.cumsum([0, *map(len, texts)])[:-1]
        self._end = self._start + [len(text) for text in texts]
        self._cut = self._start + [_cut(text, eval_share) for text in texts]

    def families(self) -> Sequence[Sequence[int]]:
        """Spellings and close relatives of one language share wording, so they form one family."""
        members: dict[int, list[int]] = {}
        for index, group in enumerate(self._groups):
            members.setdefault(group, []).append(index)
        return list(members.values())

    def class_name(self, index: int) -> str:
        return self._names[index]

    def draw(self, classes: np.ndarray, *, length: int, rng: np.random.Generator) -> Batch:
        room = self._cut[classes] - self._start[classes] - length
        if (room < 1).any():
            raise ValueError(f"task.seq_len={length}: longer than the train part of a text")
        return self._windows(self._start[classes] + rng.integers(0, room), length)

    def evaluation(self, index: int, *, count: int, length: int) -> Batch:
        room = self._end[index] - self._cut[index] - length - 1
        if room < 0:
            raise ValueError(f"task.seq_len={length}: longer than the eval part of {self._names[index]!r}")
        return self._windows(self._cut[index] + np.linspace(0, room, count).astype(np.int64), length)

    def _windows(self, starts: np.ndarray, length: int) -> Batch:
        window = self._bytes[starts[:, None] + np.arange(length + 1)]
        return whole_rows(window[:, :-1], window[:, 1:])


def _load(cache_dir: str) -> list[dict[str, Any]]:
    # Imported here: it takes half a second that `ttt-run --help` need not spend.
    import datasets

    datasets.disable_progress_bars()
    table = datasets.Dataset.from_parquet(str(DATA), cache_dir=str(Path(cache_dir).expanduser() / "datasets"))
    return [row for row in table if len(row["text"].encode("utf-8")) >= MIN_BYTES]


def _cut(text: np.ndarray, eval_share: float) -> int:
    """The first line break behind the train share: no paragraph stands on both sides."""
    breaks = np.flatnonzero(text == ord("\n")) + 1
    return int(breaks[np.searchsorted(breaks, len(text) * (1 - eval_share)).clip(max=len(breaks) - 1)])
