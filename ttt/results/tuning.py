"""The rule of continual learning for searches over hyper-parameters, and what to search for."""

from __future__ import annotations

import math

from ttt.config.messages import suggest
from ttt.results.catalogue import better, names
from ttt.results.results import Results
from ttt.results.scores import IN_BYTES, MODES, QUANTITIES, REWARDED, Scores

ALL = (*QUANTITIES, *IN_BYTES, *REWARDED)


def obeys_continual_rule(metric: str) -> bool:
    """Does a search for the best `mode/quantity/metric` use data of the current task only?

    A learner that meets tasks one after another can choose its hyper-parameters on the task at
    hand, never on earlier tasks (their data are gone) nor on later ones. `avg_learning`, the mean
    over tasks of what each scores right after it was learned, can be known that way; averages over
    all tasks, forgetting and transfer cannot.
    The rule: De Lange et al. 2019 (arXiv 1909.08383), as used by FACIL, Masana et al. 2020
    (arXiv 2010.15277).
    """
    return metric == "auto" or metric.split("/")[-1] == "avg_learning"


def direction(metric: str) -> str:
    """`maximize` or `minimize`. Raises ValueError for a metric that results.json does not hold."""
    options = known_metrics()
    if metric not in options:
        # The whole list would fill a screen: name the nearest, and what a name is made of.
        hint = suggest(metric, options).split("allowed:")[0]
        raise ValueError(
            f"sweep.objective={metric}: no such metric in results.json; {hint}allowed: MODE/QUANTITY/METRIC, "
            f"such as fast/loss/avg_learning; modes {', '.join(MODES)}; quantities {', '.join(ALL)}"
        )
    return "maximize" if better(metric) > 0 else "minimize"


def known_metrics() -> list[str]:
    """Every metric that each run has, whatever else it measures."""
    # The names depend on what was measured, not on the numbers: NaN in every mode is enough.
    blank: Scores = {mode: {quantity: [math.nan] for quantity in ALL} for mode in MODES}
    results = Results(scenario="task", tasks=["a"], fingerprints=[""], learned_at=[1], entropy=[math.nan], phases=1)
    for _ in range(2):
        results.add(columns=[0], scores=blank, base=blank)
    return names(results)
