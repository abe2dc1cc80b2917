"""`frozen`: the slow weights stay those of the base; fast weights, if any, adapt as always.

    theta_t = theta_0

The reference for what fast weights do alone. Memory: none. Cost of a step: a forward pass.
"""

from __future__ import annotations

from ttt.strategies.base import Strategy


class Frozen(Strategy):
    """Takes no slow step."""

    runs_on = "any"
    learns = False
