"""Launchers and sweepers of Hydra's, such as `hydra/launcher=joblib` and `hydra/sweeper=optuna`,
each an extra of ttt.

They decide where and when a run starts; what they start is `ttt.cli.sweeps.job.Starter`, as without
them.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ttt.cli.sweeps.grid import split
from ttt.cli.sweeps.job import terminate_jobs
from ttt.cli.sweeps.sweep import Sweep, objective_of
from ttt.run.exit_codes import ExitCode
from ttt.run.signals import TerminatedError, terminable

# Seconds that a run gets to stop by itself after Ctrl-C.
GRACE = 2.0


def choices(config: DictConfig) -> tuple[str, str]:
    """The launcher and the sweeper that a command chose; `basic` stands for our own way."""
    chosen = config.hydra.runtime.choices
    return str(chosen["hydra/launcher"]), str(chosen["hydra/sweeper"])


def is_ours(config: DictConfig) -> bool:
    return choices(config) == ("basic", "basic")


def is_grid(config: DictConfig) -> bool:
    """Are the runs all combinations of what was typed, known before the first run?"""
    return choices(config)[1] == "basic"


def launch(config: DictConfig, *, typed: Sequence[str], config_dir: str | None) -> int:
    """Let Hydra run the sweep. Raises ValueError for a search that contradicts its objective."""
    launcher, sweeper = choices(config)
    if config.sweep.tune_on is not None or config.sweep.tune_on_bases is not None:
        raise ValueError(
            f"sweep.tune_on: with hydra/launcher={launcher} and hydra/sweeper={sweeper} no run can wait for a choice; "
            "type it without them"
        )
    sweep = Sweep.of(config, typed=typed, config_dir=config_dir, launched=True)
    searches = not is_grid(config)
    direction = check_direction(config, typed=typed) if searches else ""
    total = int(config.hydra.sweeper.n_trials) if searches else len(split(sweep.typed))
    overview = sweep.open(total=total)
    by = f"hydra/launcher={launcher}" + (f" and hydra/sweeper={sweeper}" if searches else "")
    overview.note(f"{total} runs by {by}; their output is in {sweep.shown_folder}")
    overrides = [*settings(config, sweep, direction=direction), *typed]
    if config_dir:
        overrides.append(f"hydra.searchpath=[file://{Path(config_dir).resolve()}]")
    try:
        with overview.watch(), terminable():
            _multirun(sweep.starter, overrides)
        overview.settle()
    except (KeyboardInterrupt, TerminatedError) as stop:
        if isinstance(stop, KeyboardInterrupt):
            # Runs in this terminal got Ctrl-C as well; the workers of Ray, for example, do not.
            time.sleep(GRACE)
        terminate_jobs(sweep.starter.folder)
        overview.note("stopped; the same command goes on from here")
        return ExitCode.INTERRUPTED if isinstance(stop, KeyboardInterrupt) else ExitCode.TERMINATED
    except Exception as error:
        # After failed runs this is expected: optuna, for example, finds no best run among none.
        if not overview.count("failed"):
            (sweep.starter.folder / "error.log").write_text("".join(traceback.format_exception(error)))
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            overview.note(f"{by}: {first} (see {sweep.shown_folder}/error.log)")
    if searches:
        overview.note(overview.best(objective_of(config), direction))
        _declare(overview.note, objective_of(config))
    return overview.close()


def _declare(note: Callable[[str], None], objective: str) -> None:
    from ttt.results.tuning import obeys_continual_rule

    if not obeys_continual_rule(objective):
        note(f"{objective} is not known from the current task alone: say so where you report what was found")


def _multirun(starter: Callable[[Any], Any], overrides: list[str]) -> None:
    with initialize_config_module("ttt.conf", version_base="1.3", job_name="ttt-run"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.multirun(config_name="config", task_function=starter, overrides=overrides, with_log_configuration=False)


def check_search(config: DictConfig) -> str:
    """`maximize` or `minimize`, by the direction of the objective.

    Raises ValueError for a metric that no run has.
    """
    # Imported here: only a search needs the names of metrics.
    from ttt.results.tuning import direction

    return direction(objective_of(config))


def check_direction(config: DictConfig, *, typed: Sequence[str]) -> str:
    """The direction of the objective. Raises ValueError where the user typed the other."""
    wanted, metric = check_search(config), objective_of(config)
    for word in typed:
        if word.lstrip("+").startswith("hydra.sweeper.direction=") and word.partition("=")[2].lower() != wanted:
            raise ValueError(f"{word}: sweep.objective={metric} has to be {wanted.replace('ize', 'ized')}")
    return wanted


def settings(config: DictConfig, sweep: Sweep, *, direction: str) -> list[str]:
    """Our settings of a launcher or sweeper; what the user types comes after them and wins."""
    launcher, sweeper = choices(config)
    overrides = [f"hydra.sweep.dir='{sweep.starter.folder}'"]
    if launcher == "joblib":
        overrides.append(f"hydra.launcher.n_jobs={sweep.jobs}")
    if launcher == "submitit_local" and sweeper == "basic":
        # Without a limit it would start all runs at once.
        overrides.append(f"hydra.sweeper.max_batch_size={sweep.jobs}")
    if launcher == "ray" and OmegaConf.select(config, "hydra.launcher.ray.init.include_dashboard") is None:
        overrides.append("+hydra.launcher.ray.init.include_dashboard=false")
    if sweeper == "optuna":
        # A failed run says nothing about its settings, and is no reason to end the search.
        overrides += [f"hydra.sweeper.direction={direction}", "hydra.sweeper.max_failure_rate=1.0"]
        overrides += ["hydra.sweeper.n_jobs=1"] if launcher == "basic" else [f"hydra.sweeper.n_jobs={sweep.jobs}"]
    return overrides
