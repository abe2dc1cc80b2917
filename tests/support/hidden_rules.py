"""Sources of hidden rules in several sizes, and the streams that are cut from them."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from ttt.config.build import build
from ttt.run.compose import compose_run

# Three sizes of each source: the default, the smallest, an odd one.
SIZES = {
    "rule-world": ((), ("source.items=2",), ("source.items=5",)),
    "arithmetic": ((), ("source.digits=1", "source.modulus=7"), ("source.digits=3", "source.modulus=365")),
    "star-graph": (
        (),
        ("source.deg=1", "source.path=2", "source.nodes=8", "source.hops=1"),
        ("source.deg=5", "source.path=5", "source.nodes=40", "source.hops=3"),
    ),
}
SIZED = [(f"source={name}", *typed) for name, sizes in SIZES.items() for typed in sizes]


def stream_of(*typed: str, seed: int = 0, base_seed: int = 0):
    """Return a small stream of problems, built from overrides."""
    small = ("task.num_tasks=4", "task.steps_per_task=3", "task.eval_sequences=8")
    config = compose_run(["task=reward-sequence", "model.window=null", *small, *typed])
    task, source = (build(config[group], group=group, given={}, trusted=[]) for group in ("task", "source"))
    return task.build(source, seed=seed, base_seed=base_seed)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def same(a, b) -> bool:
    return torch.equal(a.tokens_BT, b.tokens_BT) and torch.equal(a.targets_BT, b.targets_BT)


def some_classes(source) -> list[int]:
    return rng().permutation(source.num_classes)[:12].tolist()


def prompts(source) -> list[tuple[int, ...]]:
    """Return all prompts; the first one is the seed prompt."""
    return list(itertools.product(source.layout.words, repeat=source.layout.prompt_len))
