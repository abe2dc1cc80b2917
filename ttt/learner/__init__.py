"""A model with its fast weights, set up on its devices."""

from ttt.learner.engine import Engine
from ttt.learner.learner import (
    Learner,
    OptimizerFactory,
    as_rows,
    competing,
    cross_entropy,
    first,
    num_scored,
    slow_hash,
)
from ttt.learner.reader import Reader

__all__ = [
    "Engine",
    "Learner",
    "OptimizerFactory",
    "Reader",
    "as_rows",
    "competing",
    "cross_entropy",
    "first",
    "num_scored",
    "slow_hash",
]
