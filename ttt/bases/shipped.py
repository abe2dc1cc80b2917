"""Bases that come with ttt, so that a demonstration need not train one first.

    ttt/bases/weights/HASH/    as in the cache; HASH is of the config and the data, not of the code

Such a base is taken only if its file is whole and today's code gives it the loss on held-out text
that it had when it was made: code that reads its weights in another way does not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ttt.bases.base import BaseSetting
from ttt.bases.until import held_out_loss
from ttt.learner import Engine
from ttt.results.events import Outdated
from ttt.storage.checkpoint import Checkpoint, load
from ttt.training.engine_state import placed_like

WEIGHTS = Path(__file__).parent / "weights"
# Bits per token: machines differ by far less, models by far more.
TOLERANCE = 1e-3


def shipped_base(setting: BaseSetting, new_engine: Callable[[], Engine]) -> Checkpoint | None:
    """The base that comes with ttt for these settings, if there is one and it fits this code.

    `new_engine`: a learner to try it in.
    """
    folder = WEIGHTS / setting.content
    if not folder.is_dir():
        return None
    try:
        saved = load(folder)
        if is_same(saved, setting, new_engine()):
            return saved
    except (ValueError, RuntimeError):
        # A damaged file, or weights of other names or sizes.
        pass
    setting.observe(Outdated())
    return None


def is_same(saved: Checkpoint, setting: BaseSetting, engine: Engine) -> bool:
    """Have the weights the loss that is noted beside them?"""
    task = setting.stream.base
    assert task is not None, "assemble checks that there is data for a base"
    engine.learner.model.load_state_dict(placed_like(engine, saved.tensors["slow"]), strict=False)
    return abs(held_out_loss(engine, task.evaluation()) - float(saved.state["held_out_loss"])) < TOLERANCE
