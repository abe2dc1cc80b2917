"""Where a text repeats other texts, by rolling hashes of every SPAN bytes.

    others   ...All human beings are born free and equal in dignity and rights. They are...
    a text   Article 1 ### All human beings are born free and equal in dignity... ### (goes on)
    clean    Article 1 ###                                         and what follows the repetition

The hash of the SPAN bytes b at place i is sum_j value(b_(i+j)) BASE^j modulo 2^64. Prefix sums of
value(b_i) BASE^i give all of them at once: a difference of two, times BASE^(-i).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

SPAN = 128
# Any odd number has an inverse modulo 2^64; this one has set bits all over.
BASE = 0x9E3779B97F4A7C15
BLOCK = 1 << 20
# The hashes of that many bytes fit into the memory of any machine (half a gigabyte).
ALL_BYTES = 64_000_000


def span_hashes(texts: Sequence[Bytes]) -> Hashes:
    """Return the hashes of all spans in `texts`, sorted.

    Above 64 MB only one in k is kept, k = bytes / 64 MB. Then only a passage longer than SPAN that
    two texts share is sure to be noticed: n shared bytes go unnoticed with probability
    (1 - 1/k)^(n - SPAN + 1).
    """
    limit = _limit(sum(map(len, texts)))
    # By size of the hash, not by place: a span that two texts share is kept in both or in neither.
    small_hashes = [hashes[hashes <= limit] for text in texts for _, hashes in _hashed(text)]
    # np.sort, not np.unique, which takes a hundred times as long for millions of hashes.
    return np.sort(np.concatenate([np.empty(0, np.uint64), *small_hashes]))


def repeats(text: Bytes, spans: Hashes) -> NDArray[np.int64]:
    """Return the places in `text` at which one of `spans` (from `span_hashes`) begins."""
    places = [start + np.flatnonzero(_contains(spans, hashes)) for start, hashes in _hashed(text)]
    return np.concatenate([np.empty(0, np.int64), *places])


def clean_runs(text: Bytes, spans: Hashes) -> list[tuple[int, int]]:
    """Return UTF-8 `text` without `spans`, as runs [start, end) of whole characters."""
    places = repeats(text, spans)
    starts = np.concatenate([[0], places + SPAN])
    ends = np.concatenate([places, [len(text)]])
    # Spans overlap where a repetition is longer than SPAN; then a start lies after its end.
    nonempty = np.flatnonzero(starts < ends)
    runs = [whole_characters(text, int(starts[i]), int(ends[i])) for i in nonempty]
    return [(start, end) for start, end in runs if start < end]


def whole_characters(text: Bytes, start: int, end: int) -> tuple[int, int]:
    """Return the longest stretch of whole characters inside [start, end) of UTF-8 `text`."""

    def is_inside(place: int) -> bool:
        # All bytes of a character but its first are 10xxxxxx.
        return place < len(text) and bool(text[place] & 0xC0 == 0x80)

    while start < end and is_inside(start):
        start += 1
    while start < end and is_inside(end):
        end -= 1
    return start, end


def _limit(size: int) -> np.uint64:
    return np.uint64((2**64 - 1) // -(-max(size, 1) // ALL_BYTES))


def _contains(spans: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    contains = np.zeros(len(hashes), np.bool_)
    if len(spans):
        # Sorted, so that a look-up finds in the cache what the last one read: twenty times as fast.
        order = np.argsort(hashes)
        in_order = hashes[order]
        # searchsorted finds the first span that is not smaller, which equals the hash if any does;
        # a hash behind the last one is compared with that.
        contains[order] = spans[np.searchsorted(spans, in_order).clip(max=len(spans) - 1)] == in_order
    return contains


def _hashed(text: Bytes) -> Iterator[tuple[int, Hashes]]:
    """Yield for each block of `text` its start, and the hash of the span at each of its bytes."""
    value, power, inverse = _constants()
    for start in range(0, len(text) - SPAN + 1, BLOCK):
        # A block overlaps the next one, so that the span at its last byte is whole.
        block = value[text[start : start + BLOCK + SPAN - 1]]
        prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(block * power[: len(block)])])
        # Unsigned numbers wrap round modulo 2^64, which is what the formula asks for.
        yield start, (prefix[SPAN:] - prefix[:-SPAN]) * inverse[: len(block) - SPAN + 1]


@functools.cache
def _constants() -> tuple[Hashes, Hashes, Hashes]:
    """Return a number for each byte, the powers of BASE from 0 on, and those of its inverse."""
    value = np.random.default_rng(0).integers(2**64, size=256, dtype=np.uint64)
    return value, _powers(BASE), _powers(pow(BASE, -1, 2**64))


def _powers(base: int) -> Hashes:
    factors = np.full(BLOCK + SPAN, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)
