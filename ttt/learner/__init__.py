"""A model with its fast weights, set up on its devices."""

from ttt.learner.engine import Engine
from ttt.learner.learner import Learner, OptimizerFactory, slow_hash
from ttt.learner.losses import competing, cross_entropy, num_scored, rooted, scored_logits, scored_targets
from ttt.learner.reader import Reader
from ttt.learner.sampling import Sampling

__all__ = [
    "Engine",
    "Learner",
    "OptimizerFactory",
    "Reader",
    "Sampling",
    "competing",
    "cross_entropy",
    "num_scored",
    "rooted",
    "scored_logits",
    "scored_targets",
    "slow_hash",
]
