"""A training step in bf16-mixed beside one in fp32: what trainer.precision=auto goes by."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch

from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.harness import BareLoop
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.devices.precision import best_precision

PRECISIONS = ("32-true", "bf16-mixed")


def measure_precision(adapters: Sequence[str], *, rounds: int) -> Iterator[Row]:
    """Yield for each adapter the time of bf16-mixed as a share of that of fp32."""
    for adapter in adapters:
        seconds = paired({precision: _steps(adapter, precision) for precision in PRECISIONS}, rounds=rounds)
        share = ratio(seconds["bf16-mixed"], seconds["32-true"])
        yield {
            "adapter": adapter,
            "bf16-mixed / 32-true": share.median,
            "least": share.low,
            "most": share.high,
            "auto here": best_precision(torch.device("cpu")),
        }


def _steps(adapter: str, precision: str) -> Callable[[], None]:
    """The same steps of the main job's model in one precision, without the harness around them."""
    assembly = assembly_of(f"adapter={adapter}", f"trainer.precision={precision}", "trainer.accelerator=cpu")
    return BareLoop(copy.deepcopy(assembly.learner), assembly, torch.device("cpu")).run
