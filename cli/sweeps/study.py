"""Other ways to type a sweep: `seeds=5` and `--study NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ttt.config.messages import UsageError, suggest
from ttt.run.compose import composing

# Either of these says which seeds there are.
SEEDS = ("seed", "seeds")


def expand(typed: argparse.Namespace) -> list[argparse.Namespace]:
    """The command in Hydra's grammar; several commands for a study that lists several sweeps."""
    if typed.study is None:
        return [_expand(typed)]
    sweeps = study(typed.study, config_dir=typed.config_dir)
    return [_expand(typed, sweep=sweep) for sweep in sweeps]


def _expand(typed: argparse.Namespace, sweep: Sequence[str] = ()) -> argparse.Namespace:
    """The command in Hydra's grammar, with one `sweep` of its study. Raises UsageError."""
    words: list[str] = list(typed.overrides)
    multirun = typed.multirun or typed.study is not None
    if typed.study is not None:
        words = with_study(words, name=typed.study, sweep=sweep)
    if typed.dry_run and not multirun:
        raise UsageError("--dry-run: shows what a sweep would do, so it goes with -m or --study; one run: --preview")
    only = [*typed.only, *([f"seed={typed.seeds}"] if typed.seeds else [])]
    if only and not multirun:
        option = f"--only {typed.only[0]}" if typed.only else f"--seeds {typed.seeds}"
        raise UsageError(f"{option}: chooses among the runs of a sweep, so it goes with -m or --study")
    words = with_seeds(words, sweep=multirun)
    return argparse.Namespace(**(vars(typed) | {"overrides": words, "multirun": multirun, "only": only}))


def key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def with_seeds(words: Sequence[str], *, sweep: bool) -> list[str]:
    """Replace `seeds=3` by `seed=0,1,2`."""
    counts = [word for word in words if key(word) == "seeds"]
    if not counts:
        return list(words)
    # What is typed last wins, as everywhere.
    word, value = counts[-1], counts[-1].partition("=")[2]
    if not (value.isdecimal() and int(value) >= 1):
        raise UsageError(f"{word}: must be a number of at least 1; seeds=3 runs seed=0,1,2")
    if any(key(other) == "seed" for other in words):
        raise UsageError(f"{word}: says which seeds there are, and so does seed=; type one of them")
    if not sweep:
        raise UsageError(f"{word}: several runs are a sweep, which needs -m")
    if any(other.startswith("hydra/sweeper=") and other != "hydra/sweeper=basic" for other in words):
        raise UsageError(f"{word}: a sweeper would search for the best seed; type one, as in seed=0")
    seeds = f"seed={','.join(str(seed) for seed in range(int(value)))}"
    return [seeds if other == word else other for other in words if key(other) != "seeds" or other == word]


def study(name: str, *, config_dir: str | None) -> list[list[str]]:
    """The sweeps that an experiment lists under `study`, to be run one after another."""
    with composing(config_dir) as composer:
        names = composer.options("experiment")
        if name not in names:
            raise UsageError(f"--study {name}: unknown; {suggest(name, names)}")
        sweeps = list(composer.config([f"experiment={name}"]).study or [])
    if not sweeps:
        raise UsageError(f"--study {name}: experiment/{name}.yaml lists nothing under study; see docs/howto/sweeps.md")
    return [list(sweep) for sweep in sweeps] if not isinstance(sweeps[0], str) else [list(sweeps)]


def with_study(words: Sequence[str], *, name: str, sweep: Sequence[str]) -> list[str]:
    """The experiment, a sweep that it lists under `study`, and what was typed, which wins."""
    if any(key(word) == "experiment" for word in words):
        raise UsageError(f"--study {name}: is an experiment by itself; type no experiment= beside it")
    said = {key(word) for word in words}
    # Either key that was typed replaces whichever of the two the study has.
    said |= set(SEEDS) if said & set(SEEDS) else set()
    folder = [] if "output_dir" in said else [f"output_dir=outputs/{name}"]
    return [f"experiment={name}", *(word for word in sweep if key(word) not in said), *folder, *words]
