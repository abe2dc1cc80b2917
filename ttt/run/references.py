"""The runs that a run is compared with (`references=true`): the same budget and seed, another
strategy.

    joint          all tasks at once                      what could be learned at all
    independent    each task alone, fresh from the base   what a network without a past learns
    frozen         no slow learning                       what fast weights do by themselves
    untrained      random weights, mean of three draws    what chance gives

A reference is an ordinary run in a folder of its own, found again by its hash.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ttt.devices.collective import decided
from ttt.devices.one_device import Devices
from ttt.evaluation.evaluate import evaluate
from ttt.learner import Engine
from ttt.results.results import Results
from ttt.results.rows import plain
from ttt.run.assemble import Assembly
from ttt.run.record import write_page
from ttt.run.watcher import Watcher
from ttt.storage.read import read_results
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import write_results

STRATEGIES = ("joint", "independent", "frozen")
# `untrained` is a mean over networks with these seeds.
SEEDS = (1001, 1002, 1003)
# What a reference need not do: only its values are read.
QUIET: dict[str, Any] = {"references": False, "report": False}

# reference -> mode -> quantity -> a value for each task
Values = dict[str, dict[str, dict[str, list[float]]]]


def config_of(strategy: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a reference of the run that was assembled with this config."""
    # The copy is deep, because sections are changed below and belong to the run's own config.
    changed = copy.deepcopy(dict(config)) | QUIET
    # A key that is null would be another run than one without it.
    changed.pop("also", None)
    changed["strategy"] = _option("strategy", strategy)
    changed["logger"] = _option("logger", "none")
    # Curves and relearning cost time, and of a reference nobody reads them.
    changed["eval"] |= {"anytime": None, "savings": False}
    return changed


def _option(group: str, name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((files("ttt.conf") / group / f"{name}.yaml").read_text())
    return content


def values(folders: Mapping[str, Path]) -> Values:
    """What the finished references measured, by the name of each."""
    measured_values: Values = {}
    for name, folder in folders.items():
        results = read_results(folder)
        measured_values[name] = {
            mode: {quantity: _row(results, name, mode, quantity) for quantity in results.rows[0]["scores"][mode]}
            for mode in results.modes
        }
    return measured_values


def _row(results: Results, name: str, mode: str, quantity: str) -> list[float]:
    """A value for each task: what the reference knows of it at the end.

    An independent run has forgotten it by then: there it is what the run knew right after learning
    it.
    """
    r = results.matrix(mode, quantity)
    if name == "independent":
        return [float(r[row, task]) for task, row in enumerate(results.learned_at)]
    return [float(x) for x in r[-1]]


def untrained(assembly: Assembly, fabric: Devices) -> dict[str, dict[str, list[float]]]:
    """mode -> quantity -> a value for each task: the mean over networks with random weights."""
    batches = [task.evaluation() for task in assembly.stream.tasks]
    networks = []
    for seed in SEEDS:
        learner, recipe = assembly.fresh_learner(seed), assembly.fresh_recipe()
        engine = Engine.build(fabric, learner, learner.configure_optimizers())
        recipe.objective.begin(learner)
        networks.append(
            evaluate(
                engine,
                batches,
                recipe=recipe,
                token_bytes=assembly.stream.token_bytes,
                answers=assembly.stream.answers,
                exact=assembly.plan.exact,
            )
        )
    return {
        mode: {q: np.mean([network[mode][q] for network in networks], axis=0).tolist() for q in networks[0][mode]}
        for mode in networks[0]
    }


def is_compared(folder: RunFolder, references: Mapping[str, Path]) -> bool:
    """Does a run that is done hold what these references, and random weights, score?"""
    stored = _stored(folder).references
    return "untrained" in stored and plain(stored) == plain(values(references) | {"untrained": stored["untrained"]})


def add_references(
    assembly: Assembly, fabric: Devices, folder: RunFolder, watcher: Watcher, references: Mapping[str, Path]
) -> None:
    """Fill in what a run that is already done can be compared with, and write its page again.

    Raises BusyError where another live process owns the folder.
    """
    decided(fabric, folder.take)
    try:
        results = _stored(folder)
        before = plain(results.references)
        # All processes measure, since a pass of a model
        # may need them all; only the first one writes.
        results.references = measured(assembly, fabric, references, before=results.references)
        if fabric.is_global_zero and plain(results.references) != before:
            write_results(folder.results, results)
            if assembly.config["report"]:
                write_page(folder, watcher)
    finally:
        if fabric.is_global_zero:
            folder.close()


def measured(
    assembly: Assembly, fabric: Devices, references: Mapping[str, Path], *, before: Values | None = None
) -> Values:
    """What the references in these folders, and random weights, score.

    `before`: what was measured earlier; random weights would score the same again.
    """
    earlier = (before or {}).get("untrained")
    return values(references) | {"untrained": earlier or untrained(assembly, fabric)}


def _stored(folder: RunFolder) -> Results:
    return read_results(folder.path)
