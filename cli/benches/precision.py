"""A training step in bf16-mixed beside one in fp32: what trainer.precision=auto goes by."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.harness import BareLoop
from ttt.cli.benches.meter import flops_of, seconds_in_products
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.devices.precision import best_precision

PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
# A product that is large enough to run at this core's full speed.
SIDE = 2048


def measure_precision(adapters: Sequence[str], *, rounds: int) -> Iterator[Row]:
    """Yield for each adapter the time of bf16-mixed as a share of that of fp32.

    `of GEMM`: the FLOPs a second of a step, over those of a large product in the same type;
    `at most`: the same if all but its products took no time. Those are timed by the clock.
    """
    for adapter in adapters:
        try:
            steps = {precision: _steps(adapter, precision) for precision in PRECISIONS}
        # Some adapters serve other models or streams only.
        except ValueError as error:
            yield {"adapter": adapter, "why not": str(error)}
            continue
        products = {f"product {precision}": _product(dtype) for precision, dtype in PRECISIONS.items()}
        seconds = paired({**steps, **products}, rounds=rounds)
        share = ratio(seconds["bf16-mixed"], seconds["32-true"])
        yield {
            "adapter": adapter,
            "bf16-mixed / 32-true": share.median,
            "least": share.low,
            "most": share.high,
            **{key: value for name in PRECISIONS for key, value in _of_gemm(name, steps[name], seconds).items()},
            "auto here": best_precision(torch.device("cpu")),
        }


def _of_gemm(name: str, step: Callable[[], None], seconds: Mapping[str, Sequence[float]]) -> Row:
    # What a step would take if its FLOPs ran as fast as the large product.
    ideal = min(seconds[f"product {name}"]) * flops_of(step) / (2 * SIDE**3)
    products = seconds_in_products(step, calls=3)
    return {f"{name} of GEMM": ideal / min(seconds[name]), f"{name} at most": ideal / products}


def _steps(adapter: str, precision: str) -> Callable[[], None]:
    """The same steps of the main job's model in one precision, without the harness around them."""
    assembly = assembly_of(f"adapter={adapter}", f"trainer.precision={precision}", "trainer.accelerator=cpu")
    return BareLoop(copy.deepcopy(assembly.learner), assembly, torch.device("cpu")).run


def _product(dtype: torch.dtype) -> Callable[[], None]:
    """A product of two square matrices."""
    x = torch.randn(SIDE, SIDE).to(dtype)

    def product() -> None:
        x @ x

    return product
