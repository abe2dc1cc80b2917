"""`sweep.tune_on`: hyper-parameters are chosen on some seeds and reported on the others.

    ttt-run -m adapter=none,mlp_fast optimizer.lr=1e-4,1e-3 seed=0,1,2 'sweep.tune_on=[0]'

First both rates run on seed 0. Then each adapter runs on the seeds 1 and 2 with the rate that was
better for it. A method is what a run's words say without its seeds and without what is tuned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ttt.cli.sweeps.grid import varied
from ttt.config.messages import show, suggest
from ttt.results.tuning import Choice, choose, direction
from ttt.storage.files import write_json
from ttt.storage.run_folder import RunFolder

# Settings of these sections are tuned where several values were typed; those of the others (task,
# base, eval, ...) say what is measured.
SECTIONS = ("optimizer", "strategy", "also", "adapter", "objective")
SEEDS = {"tune_on": "seed", "tune_on_bases": "base.seed"}

Words = tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """What is chosen (`keys`), by which metric, and on which values of seed and base.seed (`on`).

    `default`: the seeds of a run that names none.
    """

    keys: Sequence[str]
    objective: str
    on: Mapping[str, Sequence[int]]
    default: Mapping[str, Any]

    @classmethod
    def read(cls, config: DictConfig, *, typed: Sequence[str], objective: str) -> Tuning | None:
        """From the section `sweep` of a config; None where nothing says what to tune on.

        Raises ValueError in the user's words.
        """
        on = {key: _seeds(config.sweep[name], name) for name, key in SEEDS.items() if config.sweep[name] is not None}
        if not on:
            return None
        direction(objective)
        # Not resolved: the base of some runs has the seed of the run, whichever that is.
        base: Any = OmegaConf.to_container(config.base, resolve=False)
        default = {"seed": int(config.seed), "base.seed": base.get("seed", 0)}
        return cls(_keys(config.sweep.tune, varied(typed)), objective, on, default)

    def divide(self, runs: Sequence[Sequence[str]]) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
        """The runs to choose on, and all that share no seed with them, of which some are run.

        Raises ValueError where there is none to choose on.
        """
        inside = {tuple(run): [self._seed(run, key) in seeds for key, seeds in self.on.items()] for run in runs}
        first = [run for run in runs if all(inside[tuple(run)])]
        # A run that shares one of two kinds of seeds serves neither to choose nor to report.
        rest = [run for run in runs if not any(inside[tuple(run)])]
        if not first:
            raise ValueError(f"{self.typed}: no run of the sweep has these seeds")
        # Where nothing has several values, each method has one candidate and nothing to choose.
        return (first if self.keys else []), rest

    def choose(self, runs: Sequence[Sequence[str]], values: Sequence[float | None]) -> dict[Words, Choice]:
        """The best candidate of each method, from the objective of each run; None: it failed."""
        scores: dict[Words, dict[Words, list[float | None]]] = {}
        for run, value in zip(runs, values, strict=True):
            scores.setdefault(self.method(run), {}).setdefault(self.candidate(run), []).append(value)
        return {method: choose(of_method, self.objective) for method, of_method in scores.items()}

    def chosen(self, runs: Sequence[Sequence[str]], choices: Mapping[Words, Choice]) -> list[Sequence[str]]:
        """The runs with the best candidate of their method."""
        best = {method: choice.best for method, choice in choices.items()}
        return [run for run in runs if not self.keys or self.candidate(run) == best.get(self.method(run))]

    def count(self, runs: Sequence[Sequence[str]]) -> int:
        """How many of the `runs` that report will be run, whatever is chosen."""
        return len({(self.method(run), *(self._seed(run, key) for key in SEEDS.values())) for run in runs})

    def method(self, run: Sequence[str]) -> Words:
        return tuple(word for word in run if key_of(word) not in (*self.keys, *SEEDS.values()))

    def candidate(self, run: Sequence[str]) -> Words:
        return tuple(word for word in run if key_of(word) in self.keys)

    def record(self, folder: Path, choice: Choice, *, role: str) -> None:
        """Write into a run's folder what was chosen, how, and whether the run served to choose."""
        content = {"role": role, "tuned": list(self.keys), "on": dict(self.on), **choice.as_json()}
        write_json(RunFolder(folder).tuning, content)

    @property
    def typed(self) -> str:
        names = {key: name for name, key in SEEDS.items()}
        return " ".join(f"sweep.{names[key]}={show(list(seeds))}" for key, seeds in self.on.items())

    def _seed(self, run: Sequence[str], key: str) -> int:
        values = [self.default[key], *(word.partition("=")[2] for word in run if key_of(word) == key)]
        # `each` and ${seed}: the base has the seed of the run.
        return int(values[-1]) if str(values[-1]).isdecimal() else self._seed(run, "seed")


def key_of(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _seeds(value: Any, name: str) -> list[int]:
    seeds = OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise ValueError(f"sweep.{name}={show(seeds)}: must be null or a list of seeds, such as [0]")
    return seeds


def _keys(value: Any, several: set[str]) -> list[str]:
    """The keys that are tuned, of those that have several values."""
    names = OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
    if names == "auto":
        return sorted(key for key in several if "." in key and key.split(".")[0] in SECTIONS)
    if not isinstance(names, list) or not names:
        raise ValueError(f"sweep.tune={show(names)}: must be auto or a list of keys, such as [optimizer.lr]")
    for name in names:
        if name not in several:
            raise ValueError(f"sweep.tune={show(name)}: has not several values in this sweep; {suggest(name, several)}")
    return names
