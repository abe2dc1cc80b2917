"""How often a 95 % interval holds the truth, in a population of tasks like the languages.

A run learns TASKS of LANGUAGES tasks that its seed draws, so that seeds overlap. What a run
measures on a task is

    gained     1 + language + seed + base + noise
    forgotten  0.3 * gained + language + noise

The effects of languages have a heavy tail, as two tasks in unseen scripts among ten have: a tenth
of them lie far above the others. The truth is the mean over all languages, seeds and bases.

Shapes: N runs, J tasks; the last axis holds forgotten and gained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from ttt.cli.benches.timing import Row
from ttt.metrics.bootstrap import Sample, bootstrap, values_of
from ttt.metrics.matrix import Matrix
from ttt.metrics.seeds import Interval, fieller, t_interval

LANGUAGES, TASKS = 80, 10
# Studies of each design, and draws of each bootstrap: fewer than a comparison has, for time.
TRIALS, DRAWS = 200, 500
# Standard deviations; a tenth of the languages gain OUTLIER more.
LANGUAGE, SEED, BASE, NOISE, OUTLIER = 0.2, 0.05, 0.1, 0.05, 1.5


class Design(NamedTuple):
    """How many bases there are, and how many seeds of each."""

    bases: int
    seeds: int


# One base for all seeds, as by default; then a base for each seed, and several seeds of a base.
DESIGNS = (Design(1, 3), Design(1, 5), Design(1, 10), Design(3, 1), Design(5, 1), Design(10, 1), Design(3, 3))


class Population(NamedTuple):
    """`forgotten_L`, `gained_L`: the effects of the languages, the means included."""

    forgotten_L: Matrix
    gained_L: Matrix

    @property
    def truths(self) -> dict[str, float]:
        """What a study of all languages on many bases would find."""
        forgotten, gained = float(self.forgotten_L.mean()), float(self.gained_L.mean())
        return {"gained": gained, "forgotten / gained": forgotten / gained}


def measure_coverage() -> Iterator[Row]:
    """Yield a row for each design and metric: how often each interval holds the truth."""
    for design in DESIGNS:
        rng = np.random.default_rng([design.bases, design.seeds])
        # (metric, interval) -> does it hold the truth, and its width: of each study.
        studies: dict[tuple[str, str], list[tuple[bool, float]]] = {}
        for _ in range(TRIALS):
            population = draw_population(rng)
            runs = draw_study(population, design, rng)
            for metric, truth in population.truths.items():
                for name, x in intervals(runs, metric).items():
                    studies.setdefault((metric, name), []).append((x.low <= truth <= x.high, x.high - x.low))
        for metric in population.truths:
            row: Row = {"bases x seeds": f"{design.bases} x {design.seeds}", "metric": metric}
            for name in ("t", "bootstrap"):
                holds, widths = zip(*studies[metric, name], strict=True)
                row |= {f"{name} holds": float(np.mean(holds)), f"{name} width": float(np.median(widths))}
            yield row


def draw_population(rng: Generator) -> Population:
    """Draw the effects of all languages."""
    gained_L = 1 + rng.normal(0, LANGUAGE, LANGUAGES)
    # This is the heavy tail that a normal distribution does not have.
    gained_L[: LANGUAGES // 10] += OUTLIER
    return Population(0.3 * gained_L + rng.normal(0, LANGUAGE / 2, LANGUAGES), gained_L)


def draw_study(population: Population, design: Design, rng: Generator) -> list[Sample]:
    """Draw bases, seeds of each, and the tasks of each seed."""
    runs = []
    for base in range(design.bases):
        of_base = rng.normal(0, BASE)
        for _ in range(design.seeds):
            tasks = rng.choice(LANGUAGES, TASKS, replace=False)
            # All tasks of the run share this: what a seed
            # or a base does is no noise of single tasks.
            change = of_base + rng.normal(0, SEED)
            gained_J = population.gained_L[tasks] + change + rng.normal(0, NOISE, TASKS)
            forgotten_J = population.forgotten_L[tasks] + 0.3 * change + rng.normal(0, NOISE, TASKS)
            runs.append(Sample(base, np.stack([forgotten_J, gained_J], axis=1)))
    return runs


def intervals(runs: list[Sample], metric: str) -> dict[str, Interval]:
    """The interval over seeds (of a ratio Fieller's), and the bootstrap's."""
    if metric == "forgotten / gained":
        return {"t": fieller(values_of(runs)), "bootstrap": bootstrap(runs, draws=DRAWS)}
    # With denominators of 1 the ratio of means is a mean.
    gained = [Sample(run.base, np.stack([run.pairs_J2[:, 1], np.ones(TASKS)], axis=1)) for run in runs]
    return {"t": t_interval(values_of(gained)[:, 0].tolist()), "bootstrap": bootstrap(gained, draws=DRAWS)}
