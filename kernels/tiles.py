"""Sizes of the tiles in which Triton kernels work."""

from __future__ import annotations

# A program keeps whole rows of the delta rule's state in registers: for wider keys it has none
# left. No head of our models is wider.
WIDEST_KEY = 128
# tl.dot takes no side below 16.
SHORTEST_SIDE = 16


def tile(length: int, longest: int) -> int:
    """Return the power of two that covers `length`, within `SHORTEST_SIDE` and `longest`."""
    return min(max(1 << (length - 1).bit_length(), SHORTEST_SIDE), longest)
