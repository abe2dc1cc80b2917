"""What a run does differently where its model was published by others: `HfModel`.

Its frozen weights lie on the disk already, its commit is recorded, and its size is looked at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ttt.adapters.descent import Attach
from ttt.bases.base import Base
from ttt.bases.pretrained import PretrainedBase
from ttt.devices.deferred import NotDeferrableError
from ttt.devices.settings import TrainerSettings
from ttt.learner import Learner
from ttt.models.hf import HfModel
from ttt.models.memory import available_bytes, gigabytes
from ttt.models.stored import stored_weights

# Adam keeps two numbers for each that it learns.
MOMENTS = 2


def as_published(model: nn.Module) -> frozenset[str]:
    """The names of frozen parameters that are still as the model was published."""
    return model.as_published() if isinstance(model, HfModel) else frozenset()


def unchanged(model: nn.Module) -> frozenset[str]:
    """The names of parameters that are still as the model was published, frozen or not."""
    return model.unchanged() if isinstance(model, HfModel) else frozenset()


def stored_numbers(model: nn.Module) -> Mapping[str, Tensor] | None:
    """Published weights, to be read one by one; None for a model that starts from random ones.

    Raises NotDeferrableError where only the library knows how to read them.
    """
    if not isinstance(model, HfModel):
        return None
    stored = stored_weights(model)
    if stored is None:
        raise NotDeferrableError("its files hold other tensors than the model")
    return stored


def changed_weights(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that a checkpoint has to hold: the others are read again with the model."""
    same = as_published(model)
    return {name: parameter for name, parameter in model.named_parameters() if name not in same}


def load_changed(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """The inverse of `changed_weights`, on a model that was just built."""
    missing, _ = model.load_state_dict(weights, strict=False)
    # Buffers and tied weights are listed by names that no parameter has.
    unread = set(missing) & dict(model.named_parameters()).keys() - as_published(model)
    assert not unread, f"the checkpoint lacks {sorted(unread)[0]}"


def weights_of(model: nn.Module) -> str:
    """A fingerprint of published weights in a folder; empty for all others."""
    return model.fingerprint if isinstance(model, HfModel) else ""


def with_precision(config: dict[str, Any]) -> dict[str, Any]:
    """The config with a precision that suits weights in bf16; ValueError for one that does not.

    What an adapter or a strategy adds is in fp32: only under autocast do the two meet.
    """
    trainer = config["trainer"]
    if config["model"].get("dtype") != "bfloat16" or trainer["precision"] == "bf16-mixed":
        return config
    if trainer["precision"] != "auto":
        raise ValueError(f"trainer.precision={trainer['precision']}: model.dtype=bfloat16 needs bf16-mixed")
    return config | {"trainer": trainer | {"precision": "bf16-mixed"}}


def recorded_revision(config: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """The config with the commit that the weights came from, in place of a branch or nothing."""
    if not isinstance(model, HfModel) or model.revision is None:
        return config
    return config | {"model": config["model"] | {"revision": model.revision}}


def recompute_blocks(learner: Learner, settings: TrainerSettings) -> None:
    """Carry out `trainer.recompute`. Raises ValueError where nothing can be computed again."""
    if not settings.recompute:
        return
    model, adapter = learner.model, learner.adapter
    if not isinstance(model, HfModel):
        raise ValueError("trainer.recompute=true: only model=hf and model=smollm2 can recompute their blocks")
    if isinstance(adapter, Attach):
        raise ValueError(f"trainer.recompute=true: adapter={adapter.name} reads chunk after chunk through a cache")
    if not model.recompute():
        raise ValueError(
            f"trainer.recompute=true: adapter={adapter.name} has fast weights in every block, and such a block cannot "
            "be recomputed; use adapter.layers=every=6"
        )


def check_base(base: Base, learner: Learner) -> None:
    """Refuse `base=pretrained` for a model that starts from random weights."""
    if isinstance(base, PretrainedBase) and not isinstance(learner.model, HfModel):
        raise ValueError("base=pretrained: this model was not published with weights; use model=hf or model=smollm2")


def check_memory(learner: Learner, settings: TrainerSettings) -> None:
    """Refuse a model whose gradients and moments do not fit into memory beside its weights."""
    free = available_bytes()
    if not isinstance(learner.model, HfModel) or free is None or settings.device().type != "cpu":
        return
    learned = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    # Each weight takes a gradient and MOMENTS numbers; the weights are in memory already.
    needed = sum(parameter.numel() * parameter.element_size() * (1 + MOMENTS) for parameter in learned)
    if needed > free:
        count = sum(parameter.numel() for parameter in learned)
        raise ValueError(
            f"model.name={learner.model.name}: to learn {count / 1e6:,.0f} M parameters takes {gigabytes(needed)} for "
            f"gradients and moments, and {gigabytes(free)} of memory are free; use strategy=lora_task or optimizer.only"
        )
