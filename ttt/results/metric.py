"""What a metric is: a name, a pure function, what the function takes, and how people read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

# What a function is called with, see ttt.results.sources.
Need = Literal[
    "R", "learned", "regret", "base", "known", "references", "gain", "split", "split read", "split carried",
    "split both", "points", "shots", "relearned", "profile", "diagnostics", "status",
]  # fmt: skip
# value: an average, in the unit of its quantity and better where that is better. gain and harm: a
# difference, where zero means no effect. more and less: the better of two numbers, where zero means
# nothing. neither: no judgement.
Better = Literal["value", "gain", "harm", "more", "less", "neither"]


class Name(NamedTuple):
    """MODE/QUANTITY/METRIC. Instead of a mode it may begin with `fast_gain`, `split` or `cost`."""

    mode: str
    quantity: str
    metric: str

    @classmethod
    def of(cls, text: str) -> Name:
        mode, quantity, metric = text.split("/")
        return cls(mode, quantity, metric)

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(frozen=True)
class Metric:
    """One number of a run.

    `of`: higher is better in everything it takes. `better`: how to read what it returns. `unit`:
    "{}" stands for the unit of the quantity. `too_small`: what to say if the metric is NaN because
    it would divide by too small a number. `parts`: numerator and denominator of a ratio; over
    several runs the sums of these are divided, since a mean of ratios is ruled by the smallest
    denominator.
    """

    of: Callable[..., float]
    needs: Need
    better: Better
    unit: str
    label: str
    too_small: str = ""
    parts: Callable[..., tuple[float, float]] | None = None
