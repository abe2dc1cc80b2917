"""What is said of a promise: it holds, it is broken by this example, or it was never given.

ruling = padding(case)
ruling.holds     True | False | None
ruling.why       "row 0, position 3: the score moves by 0.2 of the largest"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Ruling(NamedTuple):
    """`holds` is None for a promise that was not given; `why` is the first counterexample."""

    holds: bool | None
    why: str = ""


HOLDS = Ruling(True)


def broken(why: str) -> Ruling:
    return Ruling(False, why)


def not_given(why: str) -> Ruling:
    return Ruling(None, why)


def first_broken(*rulings: Ruling) -> Ruling:
    """Return the first of these that is broken; without one, the first."""
    return next((ruling for ruling in rulings if ruling.holds is False), rulings[0])


def same_scores(logits_BTV: Tensor, expected_BTV: Tensor, *, tolerance: float, where: str = "") -> Ruling:
    """Rule that no score differs by more than this share of the largest one."""
    change_BT = (logits_BTV - expected_BTV).abs().amax(-1) / expected_BTV.abs().max()
    # A score that is NaN differs from all others.
    moved = (~(change_BT <= tolerance)).nonzero()
    if not len(moved):
        return HOLDS
    # The first one, which is nearest to the cause.
    row, t = moved[0].tolist()
    size = f"{float(change_BT[row, t]):.2g} of the largest score"
    return broken(f"row {row}, position {t}{where}: the score moves by {size}")


def same_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, where: str = "") -> Ruling:
    """Rule that all tensors are equal, bit for bit."""
    names = sorted(set(tensors) ^ set(expected))
    if names:
        return broken(f"{names[0]}{where}: is only in one of them")
    for name, x in tensors.items():
        if not torch.equal(x, expected[name]):
            return broken(f"{name}{where}: {_difference(x, expected[name])}")
    return HOLDS


def _difference(x: Tensor, expected: Tensor) -> str:
    if x.shape != expected.shape:
        return f"has the shape {list(x.shape)}, not {list(expected.shape)}"
    return f"differs by {float((x.double() - expected.double()).abs().max()):.2g}"
