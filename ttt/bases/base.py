"""What a base is: where the slow weights come from before the stream begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ttt.devices.one_device import Devices
from ttt.learner import Learner, OptimizerFactory
from ttt.results.events import Notice, Trained
from ttt.stream import Stream
from ttt.training.saving import Saving
from ttt.training.write_dropout import WriteDropout

SlowWeights = Mapping[str, Tensor]
Observe = Callable[[Trained | Notice], None]


@dataclass(frozen=True)
class BaseSetting:
    """What a base may use.

    `new_learner` returns a learner whose fast state lives as `base.reset` says; `identity` names
    all that determines the weights, `content` the same without the code; `cache` is a folder that
    outlives the run; `observe` hears of progress; `accumulate` is into how many parts a device cuts
    its rows, `processes` how many share each row. `model`: its section of the config; `initial`:
    the slow weights that it was built with. `dropout`: which batches are read without writes.
    `saving`: when the state of the training is saved, and who may stop it.
    """

    new_learner: Callable[[OptimizerFactory], Learner]
    fabric: Devices
    stream: Stream
    identity: str
    content: str
    cache: Path
    observe: Observe
    accumulate: int
    processes: int
    model: Mapping[str, Any]
    initial: SlowWeights
    dropout: WriteDropout = field(default_factory=WriteDropout)
    saving: Saving = field(default_factory=Saving)


class Base(Protocol):
    """`seed` fixes the initial weights and which classes of the source are held out from the base.

    `needs_data`: does it train on the stream's base distribution? `record`: what training took and
    where it ended, once `weights` was called; empty for weights that are not trained here.
    """

    name: str
    seed: int
    needs_data: bool
    record: dict[str, float | str]

    def weights(self, setting: BaseSetting) -> SlowWeights | None:
        """Slow weights by name, or None for those the model was built with."""
        ...
