"""What is measured on a task: in which modes a learner reads it, and which quantities come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["slow", "fast", "carried", "archived"]
MODES: tuple[Mode, ...] = get_args(Mode)
# What each mode means, by the mode in which the model is used.
MEANINGS: dict[Mode, dict[str, str]] = {
    "fast": {
        "slow": "fast weights off",
        "fast": "fast weights start empty, written while reading",
        "carried": "from the state that the stream left",
    },
    "carried": {
        "slow": "learned weights, seed prompt",
        "fast": "weights of the base, prompt in use (adapter=none: as learned)",
        "carried": "learned weights, prompt in use",
        "archived": "learned weights, the prompt that was best when the task ended",
    },
}
# The modes that a comparison shows unless others are named. Mode fast of a policy is left out: it
# is the base under the same prompts, which says nothing about learning.
COMPARED: dict[Mode, tuple[Mode, ...]] = {
    "fast": ("slow", "fast", "carried"),
    "carried": ("slow", "carried", "archived"),
}

# mode -> quantity -> one value for each task that was measured
Scores = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Quantity:
    """What a score counts.

    `sign`: +1 where higher is better. `curve`: does it have metrics between the rows of R too?
    """

    label: str
    unit: str
    sign: int
    curve: bool = True

    @property
    def title(self) -> str:
        return f"{self.label[:1].upper()}{self.label[1:]} ({self.unit})"


QUANTITIES = {
    "loss": Quantity("loss", "bits per token", -1),
    "accuracy": Quantity("accuracy", "share", 1),
    "loss_early": Quantity("loss, first half", "bits per token", -1, curve=False),
    "loss_late": Quantity("loss, second half", "bits per token", -1),
    "accuracy_early": Quantity("accuracy, first half", "share", 1, curve=False),
    "accuracy_late": Quantity("accuracy, second half", "share", 1),
}
# Measured only on problems whose answers can be verified (ttt.evaluation.rewards).
REWARDED = {
    "reward": Quantity("reward, greedy", "share", 1),
    "success": Quantity("reward, expected", "share", 1),
    "kl": Quantity("distance from the base, KL(policy || base)", "bits per token", -1),
    "kl_words": Quantity("KL(policy || base), mean over words", "bits per token", -1),
    "kl_forward": Quantity("distance from the base, KL(base || policy)", "bits per token", -1),
    "kl_forward_words": Quantity("KL(base || policy), mean over words", "bits per token", -1),
}
# Measured only on multiple-choice items (ttt.evaluation.known), beside the accuracy.
CHOSEN = {
    "acc_norm": Quantity("accuracy, log p per byte", "share", 1),
    "log_p_right": Quantity("log p of the right option", "bits", 1),
}
# Measured only on text whose tokens are not bytes: there it compares tokenizers. Of bytes it is the
# loss.
IN_BYTES = {
    "bits_per_byte": Quantity("loss per byte", "bits per byte", -1),
    "bits_per_byte_late": Quantity("loss per byte, second half", "bits per byte", -1),
}
# Measured only where answers have several tokens: the share of answers whose every token was the
# likeliest behind the right ones before it, which is when greedy decoding writes the whole answer.
ANSWERED = {
    "exact_match": Quantity("exact match", "share of answers", 1, curve=False),
    # With eval.exact=true: here the model reads what it wrote itself, not the right answer.
    "exact": Quantity("exact, written freely", "share of rows", 1, curve=False),
}
# Computed from the loss: what it exceeds the entropy of the task by.
REGRET = Quantity("regret", "bits per token", -1)


def quantity_of(name: str) -> Quantity:
    """The quantity called `name`, `regret` included. Raises KeyError for any other name."""
    return REGRET if name == "regret" else (QUANTITIES | IN_BYTES | ANSWERED | REWARDED | CHOSEN)[name]


def sign(quantity: str) -> int:
    """+1 where higher is better, -1 for a loss or a divergence."""
    return quantity_of(quantity).sign
