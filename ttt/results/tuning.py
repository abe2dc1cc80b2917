"""The rule of continual learning for a search over hyper-parameters, and what may be searched for."""

from __future__ import annotations

import math

from ttt.config.messages import suggest
from ttt.results.catalogue import better
from ttt.results.results import Results
from ttt.results.scores import QUANTITIES, REWARDED

ALL = (*QUANTITIES, *REWARDED)
MODES = ("slow", "fast", "carried", "archived")


def obeys_continual_rule(metric: str) -> bool:
    """Does a search for the best `mode/quantity/metric` use data of the current task only?

    A learner that meets tasks one after another can choose its hyper-parameters on the task at hand, never on
    earlier tasks (their data are gone) nor on later ones. `avg_learning`, the mean over tasks of what each scores right
    after it was learned, can be known that way; averages over all tasks, forgetting and transfer cannot.
    The rule: De Lange et al. 2019 (arXiv 1909.08383); as used by FACIL, Masana et al. 2020 (arXiv 2010.15277).
    """
    return metric == "auto" or metric.split("/")[-1] == "avg_learning"


def direction(metric: str) -> str:
    """`maximize` or `minimize`. Raises ValueError for a metric that results.json does not hold."""
    names = known_metrics()
    if metric not in names:
        # All of them would fill a screen: the nearest, and what a name is made of.
        hint = suggest(metric, names).split("allowed:")[0]
        raise ValueError(
            f"sweep.objective={metric}: no such metric in results.json; {hint}allowed: MODE/QUANTITY/METRIC, "
            f"such as fast/loss/avg_learning; modes {', '.join(MODES)}; quantities {', '.join(ALL)}"
        )
    return "maximize" if better(metric) > 0 else "minimize"


def known_metrics() -> list[str]:
    """Every name in the metrics of a run, read off the results of one that measured nothing."""
    blank = {mode: {quantity: [math.nan] for quantity in ALL} for mode in MODES}
    results = Results(scenario="task", tasks=["a"], fingerprints=[""], learned_at=[1], entropy=[math.nan], phases=1)
    for _ in range(2):
        results.add(columns=[0], scores=blank, base=blank)
    return list(results.metrics())
