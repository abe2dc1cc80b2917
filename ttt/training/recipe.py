"""What moves the slow weights: the objective, the strategy that protects them, and the pace."""

from __future__ import annotations

from dataclasses import dataclass, field

from ttt.objectives.base import Objective
from ttt.objectives.next_token import NextToken
from ttt.strategies.base import Strategy
from ttt.strategies.naive import Naive
from ttt.training.pace import Pace
from ttt.training.write_dropout import WriteDropout


@dataclass(frozen=True)
class Recipe:
    """Plain training by default: next-token likelihood, nothing protected, a constant rate.

    `dropout` says which batches are read without writes.
    """

    objective: Objective = field(default_factory=lambda: NextToken(name="next_token"))
    strategy: Strategy = field(default_factory=lambda: Naive(name="naive"))
    pace: Pace = field(default_factory=Pace)
    dropout: WriteDropout = field(default_factory=WriteDropout)
