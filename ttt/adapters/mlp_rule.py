"""How `mlp_fast` writes, and what of it is learned: settings without tensors.

conf/adapter/mlp_fast.yaml explains them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RuleName = Literal["hebb", "delta", "delta_whole", "nlms", "ridge"]
WriteAt = Literal["chunk", "prompt", "document"]
TargetName = Literal["conv", "next", "same"]


@dataclass(frozen=True)
class WriteRule:
    """What is written and when; training and evaluations may have different ones.

    `chunk`: cells of a write, the whole prompt with `write_at=prompt`; unused with `document`.
    `fixed_step`: takes the place of the learned step. `paired`: a token is written only if the next
    one is in the same chunk.
    """

    rule: RuleName
    write_at: WriteAt
    chunk: int
    most_tokens: int
    ridge: float
    norm: Literal["rows", "spectral"] | None
    decay: float
    momentum: float
    fixed_step: float | None
    clip: float | None
    keys: Literal["l2", "raw"]
    centre: bool
    paired: bool
    through_writes: bool

    @property
    def associative(self) -> bool:
        """Is every write independent of what is already written, and every read linear in it?

        Then chunks need not wait for one another, and a parallel executor can be chosen.
        """
        return self.rule == "hebb" and self.momentum == 0 and self.norm != "rows"

    @property
    def sized_last(self) -> bool:
        """Is a write multiplied by the step as a whole? Other writes hold it in their factors."""
        return self.rule == "ridge" or self.norm == "spectral"


@dataclass(frozen=True)
class TargetStart:
    """What targets and steps are before anything is learned, and what of them is learned.

    `learns`: false where slow weights do not learn through writes; then none of it is learned.
    """

    target: TargetName
    start: Literal["next", "conv_zero", "step_zero"]
    taps: int
    projection: float | Literal["diagonal"]
    learn_projection: bool
    step: float
    learn_step: bool
    learns: bool


def check_start(start: TargetStart) -> None:
    """Raises ValueError for a convolution that cannot be."""
    if start.taps % 2 == 0:
        raise ValueError(f"adapter.taps={start.taps}: must be odd, with as many tokens before as after")
    if start.start == "conv_zero" and start.target != "conv":
        raise ValueError(
            "adapter.start=conv_zero: a convolution of zeros must be learned, and "
            f"adapter.target={start.target} learns none; use target=conv or start=step_zero"
        )


def check_rule(rule: WriteRule, start: TargetStart, *, seq_len: int, test: bool) -> None:
    """Raises ValueError for switches that do not go together; `test`: those of evaluations."""
    prefix = "adapter.test_" if test else "adapter."
    if rule.write_at != "document":
        _check_length(rule, seq_len=seq_len)
    if rule.norm == "spectral" and rule.rule == "ridge":
        raise ValueError(f"{prefix}rule=ridge: adapter.norm=spectral would undo the size of the fit; use norm=null")
    if start.start != "conv_zero" or test:
        return
    # An error against the whole map is -W0 k where targets are zero.
    if rule.rule in ("delta_whole", "ridge"):
        raise ValueError(
            f"{prefix}rule={rule.rule}: with start=conv_zero targets are zero at first, so this rule would unlearn "
            "W0; use start=step_zero"
        )
    if rule.norm == "spectral":
        raise ValueError("adapter.norm=spectral: divides by the size of writes, which start=conv_zero makes zero")


def check_test(
    *, writes: bool, rule: RuleName | None, write_at: WriteAt | None, step: float | None, clip: float | None
) -> None:
    """Raises ValueError for how evaluations write, where they write nothing."""
    for key, value in (("rule", rule), ("write_at", write_at), ("step", step), ("clip", clip)):
        if value is not None and not writes:
            raise ValueError(f"adapter.test_{key}={value}: with test_writes=false evaluations write nothing")


def _check_length(rule: WriteRule, *, seq_len: int) -> None:
    key = "prompt" if rule.write_at == "prompt" else "chunk"
    if rule.chunk >= seq_len:
        raise ValueError(
            f"adapter.{key}={rule.chunk}: must be below task.seq_len={seq_len}; nothing reads what the "
            "last chunk of a sequence writes, so one chunk would mean no fast weights at all"
        )
    if rule.paired and rule.chunk < 2:
        raise ValueError(f"adapter.{key}={rule.chunk}: with target=next a chunk needs at least 2 tokens, a pair")
