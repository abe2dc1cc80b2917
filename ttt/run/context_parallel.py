"""Can the rows of a run be cut over processes?"""

from __future__ import annotations

from ttt.adapters.base import crossing_of
from ttt.devices.settings import TrainerSettings
from ttt.learner import Learner
from ttt.learner.engine import merges_lanes
from ttt.models.nano import Nano
from ttt.stream import Stream


def check_context(learner: Learner, settings: TrainerSettings, *, stream: Stream) -> None:
    """Raises ValueError for a model, an adapter or rows that several processes cannot share."""
    size, adapter = settings.context_parallel, learner.adapter
    if size == 1:
        return
    typed = f"trainer.context_parallel={size}"
    if not isinstance(learner.model, Nano):
        raise ValueError(f"{typed}: needs model=nano, whose attention crosses from process to process")
    crossing = crossing_of(adapter)
    if crossing is None:
        raise ValueError(
            f"{typed}: adapter={adapter.name} cannot hand its state on to another process; use none, delta_fast, "
            "titans_fast, or mlp_fast with write_at=chunk"
        )
    if adapter.reset != "sequence" and not merges_lanes(adapter):
        raise ValueError(f"{typed}: not with adapter.carry=lane; use carry=mean or reset=sequence")
    lengths = {phase.batch(0).tokens_BT.shape[1] for phase in stream.phases}
    if stream.base is not None:
        lengths.add(stream.base.batch(0).tokens_BT.shape[1])
    for length in sorted(lengths):
        if length % size:
            raise ValueError(f"{typed}: must divide the rows of task.seq_len={length} tokens")
        if length // size % crossing:
            raise ValueError(
                f"{typed}: adapter.chunk={crossing} must divide the {length // size} tokens that each process reads of "
                f"task.seq_len={length}"
            )
