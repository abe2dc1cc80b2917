"""`naive`: train on each task as it comes and protect nothing. The baseline of every comparison."""

from __future__ import annotations

from ttt.strategies.base import Strategy


class Naive(Strategy):
    runs_on = "any"
