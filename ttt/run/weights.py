"""Weights of a base, put into a learner that they fit."""

from __future__ import annotations

from collections.abc import Set

import torch

from ttt.bases.base import SlowWeights
from ttt.learner import Learner
from ttt.run.published import stored_numbers
from ttt.storage.shares import share_of


def initial_weights(learner: Learner) -> SlowWeights:
    """The slow weights that the model was built with."""
    stored = None if learner.deferred is None else stored_numbers(learner.model)
    return dict(learner.model.named_parameters()) if stored is None else stored


@torch.no_grad()
def load_weights(
    learner: Learner, weights: SlowWeights, *, own_names: Set[str], base_names: Set[str], published: Set[str]
) -> None:
    """Put `weights` into the learner. Raises ValueError where they do not fit.

    `own_names`: the parameters that are the model's own; `base_names`: those that a base may bring;
    `published`: those that need none, as the model was published with them.
    """
    parameters = dict(learner.model.named_parameters())
    unknown = sorted(set(weights) - base_names)
    # What a model was published with is not saved again where nothing changed it.
    missing = sorted(own_names - set(weights) - published)
    brought = base_names - own_names
    if brought & set(weights):
        # Weights of a plain model fit below any adapter, those of another adapter do not.
        missing += sorted(brought - set(weights))
    if unknown or missing:
        name = (unknown or missing)[0]
        hint = "" if name in own_names else "; take the adapter, with its layers, that learned them"
        raise ValueError(f"base: the weights do not fit the model: {name} is only in one of them{hint}")
    # One after another: of a checkpoint in shares no more is in memory at a time.
    for name in weights:
        tensor, parameter = share_of(weights, name, like=parameters[name]), parameters[name]
        if tensor.shape != parameter.shape:
            shapes = f"{list(tensor.shape)} there, {list(parameter.shape)} here"
            raise ValueError(f"base: the weights do not fit the model: {name} is {shapes}")
        parameter.copy_(tensor)
