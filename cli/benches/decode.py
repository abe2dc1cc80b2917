"""Decoding a token: a reader beside a plain decoder whose keys and values lie in place.

Shapes: B lanes, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor

from ttt.cli.benches.adapters import DATA
from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.plain import PlainDecoder
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.learner import Learner, Reader
from ttt.models.nano import Nano

BATCHES, LENGTH, PREFIX, DECODED = (1, 32), 256, 64, 64
SIDES = ("none", "mlp_fast")


def measure_decoding(*, rounds: int) -> Iterator[Row]:
    """Yield a row for each adapter and number of lanes: CPU time per token of the main job's model.

    `floor`: the plain model in bare torch; all sides of a number of lanes run in the same rounds.
    """
    learners = {side: decoded_learner(side) for side in SIDES}
    for batch in BATCHES:
        tokens_BT = torch.randint(256, (batch, PREFIX + DECODED), generator=torch.Generator().manual_seed(0))
        calls = {side: _reading(learner, tokens_BT) for side, learner in learners.items()}
        floor = PlainDecoder(_model(learners["none"]), lanes=batch)
        seconds = paired({"floor": _decoding(floor.read, tokens_BT), **calls}, rounds=rounds)
        for side in SIDES:
            over = ratio(seconds[side], seconds["floor"])
            yield {
                "adapter": side,
                "lanes": str(batch),
                "ms/token": median(seconds[side]) / DECODED * 1e3,
                "floor": median(seconds["floor"]) / DECODED * 1e3,
                "over floor": over.median,
                "least": over.low,
                "most": over.high,
                "over none": ratio(seconds[side], seconds["none"]).median,
            }


def decoded_learner(adapter: str) -> Learner:
    """The main job's model with an adapter, ready to read."""
    threads = f"trainer.threads={torch.get_num_threads()}"
    # In fp32, as a reader computes unless its user says otherwise.
    return assembly_of(*DATA, f"adapter={adapter}", f"task.seq_len={LENGTH}", threads).learner.eval()


def _model(learner: Learner) -> Nano:
    assert isinstance(learner.model, Nano)
    return learner.model


def _reading(learner: Learner, tokens_BT: Tensor) -> Callable[[], None]:
    reader = Reader(learner)
    reader.read(tokens_BT[:, :PREFIX])
    return _decoding(reader.read, tokens_BT)


def _decoding(read: Callable[[Tensor], Tensor], tokens_BT: Tensor) -> Callable[[], None]:
    """Return a call that reads DECODED tokens one by one."""

    def decode() -> None:
        for t in range(PREFIX, PREFIX + DECODED):
            read(tokens_BT[:, t : t + 1])

    return decode
