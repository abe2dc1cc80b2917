"""What is measured on a task. Light on purpose: a comparison of a thousand runs loads no torch."""

from __future__ import annotations

QUANTITIES = ("loss", "accuracy", "loss_early", "loss_late", "accuracy_early", "accuracy_late")
# Also of problems with a verifiable answer, see ttt.evaluation.rewards.
REWARDED = ("reward", "success", "kl", "kl_words")

# mode -> quantity -> one value a measured task
Scores = dict[str, dict[str, list[float]]]


def sign(quantity: str) -> int:
    """+1 where higher is better, -1 for a loss or a divergence."""
    return -1 if quantity.startswith(("loss", "kl")) else 1
