"""Readers of small models whose tokens are bytes, and the same reading in one piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tiny_adapters import batch_of, make

from ttt.serving.coder import ByteCoder
from ttt.serving.readers import Readers, Storage
from ttt.serving.rules import ReadingRules
from ttt.serving.state_file import Owner


def learner_of(adapter="mlp_fast", **options):
    """A tiny learner that reads bytes."""
    return make(adapter, vocab=256, **options).eval()


def owner_of(adapter="mlp_fast", weights="w" * 64, **settings):
    return Owner("runs/a", "nano", adapter, {"name": adapter, **settings}, weights)


def readers_of(folder, adapter="mlp_fast", *, block=8, lanes=1, budget=10**9, window=2, events=None, owner=None,
               upkeep=None, start=None, after_round=None, learner=None, plain=True):  # fmt: skip
    """Readers that put their events into the list `events`."""
    learner = learner or learner_of(adapter)
    rules = ReadingRules(block=block, lanes=lanes, window=window, plain=plain, **({"upkeep": upkeep} if upkeep else {}))
    seen = [] if events is None else events

    def hear(new):
        seen.extend(new)
        if after_round is not None:
            after_round(readers)

    readers = Readers(
        learner, new_coder=ByteCoder, owner=owner or owner_of(adapter), rules=rules,
        start=start or learner.adapter.initial(), storage=Storage(Path(folder), budget), after_round=hear,
    )  # fmt: skip
    return readers


def text_of(seed, size=61):
    return np.random.default_rng(seed).integers(97, 123, size).astype(np.uint8).tobytes()


@torch.no_grad()
def nats_at_once(learner, data, *, write=True):
    """The loss of one pass over the text, each token from those before it."""
    tokens_1T = torch.tensor([list(data)])
    logits_1TV, _ = learner(batch_of(tokens_1T[:, :-1]), learner.adapter.initial(), write=write)
    return float(F.cross_entropy(logits_1TV[0], tokens_1T[0, 1:], reduction="sum"))
