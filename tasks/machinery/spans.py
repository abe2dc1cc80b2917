"""Where a text repeats what others say, by rolling hashes of every SPAN bytes.

    others   ...All human beings are born free and equal in dignity and rights. They are endowed with reason...
    a text   Article 1 ### All human beings are born free and equal in dignity and rights... ### (continues)
    clean    Article 1 ###                                                    and what follows the repetition

The hash of the SPAN bytes b at place i is sum_j value(b_(i+j)) BASE^j modulo 2^64: prefix sums give all at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

SPAN = 128
# Any odd number has an inverse modulo 2^64; this one has bits all over.
BASE = 0x9E3779B97F4A7C15
BLOCK = 1 << 20
# Hashes of that many bytes fit into the memory of any machine (half a gigabyte).
ALL_BYTES = 64_000_000


def known_spans(texts: Sequence[Bytes]) -> Hashes:
    """Hashes of all spans in `texts`, sorted.

    Above 64 MB only one in k is kept, k = bytes / 64 MB. What two texts share is then found for sure only where
    it is longer than SPAN: n shared bytes go unnoticed with probability (1 - 1/k)^(n - SPAN + 1).
    """
    limit = _limit(sum(map(len, texts)))
    found = [hashes[hashes <= limit] for text in texts for _, hashes in _hashed(text)]
    # Not np.unique: of millions of hashes it takes a hundred times as long.
    return np.sort(np.concatenate([np.empty(0, np.uint64), *found]))


def repeats(text: Bytes, known: Hashes) -> NDArray[np.int64]:
    """The places in `text` at which one of the `known` spans begins."""
    places = [start + np.flatnonzero(_contains(known, hashes)) for start, hashes in _hashed(text)]
    return np.concatenate([np.empty(0, np.int64), *places])


def clean_runs(text: Bytes, known: Hashes) -> list[tuple[int, int]]:
    """What UTF-8 `text` is without the `known` spans: [start, end) of each run, in whole characters."""
    places = repeats(text, known)
    starts = np.concatenate([[0], places + SPAN])
    ends = np.concatenate([places, [len(text)]])
    kept = np.flatnonzero(starts < ends)
    runs = [whole_characters(text, int(starts[i]), int(ends[i])) for i in kept]
    return [(start, end) for start, end in runs if start < end]


def whole_characters(text: Bytes, start: int, end: int) -> tuple[int, int]:
    """The longest stretch of whole characters inside [start, end) of UTF-8 `text`."""

    def inside(place: int) -> bool:
        return place < len(text) and bool(text[place] & 0xC0 == 0x80)

    while start < end and inside(start):
        start += 1
    while start < end and inside(end):
        end -= 1
    return start, end


def _limit(size: int) -> np.uint64:
    return np.uint64((2**64 - 1) // -(-max(size, 1) // ALL_BYTES))


def _contains(known: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    contains = np.zeros(len(hashes), np.bool_)
    if len(known):
        # In order, so that one look-up finds in the cache what the last one read: twenty times as fast.
        order = np.argsort(hashes)
        sought = hashes[order]
        contains[order] = known[np.searchsorted(known, sought).clip(max=len(known) - 1)] == sought
    return contains


def _hashed(text: Bytes) -> Iterator[tuple[int, Hashes]]:
    """Block after block: where it starts, and the hash of the span at each of its bytes."""
    value, power, inverse = _constants()
    for start in range(0, len(text) - SPAN + 1, BLOCK):
        block = value[text[start : start + BLOCK + SPAN - 1]]
        prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(block * power[: len(block)])])
        yield start, (prefix[SPAN:] - prefix[:-SPAN]) * inverse[: len(block) - SPAN + 1]


@functools.cache
def _constants() -> tuple[Hashes, Hashes, Hashes]:
    """A number for each byte; the powers of BASE, and those of its inverse, from 0 on."""
    value = np.random.default_rng(0).integers(2**64, size=256, dtype=np.uint64)
    return value, _powers(BASE), _powers(pow(BASE, -1, 2**64))


def _powers(base: int) -> Hashes:
    factors = np.full(BLOCK + SPAN, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)
