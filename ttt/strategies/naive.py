"""`naive`: train on each task as it comes and protect nothing; the baseline of every comparison."""

from __future__ import annotations

from ttt.strategies.base import Strategy


class Naive(Strategy):
    """Does nothing at any point."""

    runs_on = "any"
