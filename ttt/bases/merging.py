"""Low-rank updates added to the matrices beside which they were learned: W0 + (alpha / r) B A.

Shapes: R rank, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

# How checkpoints name the two factors of an update, after the name of its layer (LowRank).
A, B = ".lora.a_RI", ".lora.b_OR"


def has_updates(weights: Mapping[str, Tensor]) -> bool:
    """Do low-rank updates lie beside these weights?"""
    return any(name.endswith(A) for name in weights)


def without_updates(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all that is no low-rank update."""
    return {name: x for name, x in weights.items() if not name.endswith((A, B))}


def scale_of_updates(config: Mapping[str, Any]) -> float:
    """Return alpha / rank of the strategy that learned low-rank updates, from its run's config.

    Raises ValueError where each task has an update of its own, none of which is that of the run.
    """
    for section in (config["strategy"], config.get("also") or {}):
        if section.get("per") == "task":
            raise ValueError("strategy.per=task: keeps an update for each task, none for all; use strategy.per=stream")
        if "alpha" in section and "rank" in section:
            return float(section["alpha"]) / int(section["rank"])
    raise ValueError("holds low-rank updates of a strategy that does not say how they are scaled")


def merged(weights: Mapping[str, Tensor], *, initial: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return `weights` with every low-rank update added to its matrix, and no update beside it.

    `initial` holds the matrices that are missing in `weights`, because nothing changed them. Raises
    ValueError for a layer without a matrix of its own.
    """
    result = without_updates(weights)
    for layer in (name.removesuffix(A) for name in weights if name.endswith(A)):
        name = f"{layer}.weight"
        matrix_OI = result.get(name, initial.get(name))
        if matrix_OI is None:
            raise ValueError(
                f"{layer} shares its matrix with the embedding, so that its update cannot be added to it; "
                "train with strategy.layers=[layers]"
            )
        a_RI, b_OR = weights[layer + A], weights[layer + B]
        # The sum is rounded once, at its end: the factors are in fp32 also beside weights in bf16.
        result[name] = (matrix_OI.detach() + scale * b_OR.detach() @ a_RI.detach()).to(matrix_OI.dtype)
    return result
