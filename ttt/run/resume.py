"""The state of a run on disk, after tasks and inside them, and how a run goes on from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ttt.learner import Engine
from ttt.results.results import Results
from ttt.results.rows import points_from_json, rows_from_json
from ttt.run.published import changed_weights, load_changed
from ttt.storage import checkpoint
from ttt.storage.checkpoint import Checkpoint
from ttt.storage.files import check_space
from ttt.storage.history import History
from ttt.storage.journal import Journal
from ttt.training.clock import Clock
from ttt.training.engine_state import bytes_of_a_save, engine_tensors, placed_like, restore_engine
from ttt.training.recipe import Recipe

# The newest may be damaged by a full disk or a dying machine: the one before it is kept too.
KEPT_CHECKPOINTS = 2
# What a checkpoint of a run is made of.
GROUPS = ("slow", "fast", "optimizer", "strategy", "objective", "rng")
STATE = {"rows": list, "points": dict, "clock": dict, "journal_position": int}


def save_run(
    engine: Engine,
    recipe: Recipe,
    *,
    results: Results,
    clock: Clock,
    journal: Journal | None,
    history: History,
    folder: Path,
    task_step: int,
    sharded: bool = False,
) -> None:
    """Save everything that must be the same for the run to go on as if it had never stopped.

    `task_step`: how much of the next task is learned. `sharded`: each process writes its shares of
    what is cut; else all give them to the first one, which writes. Only that one has the journal.
    The number of devices may be another when the run goes on.
    """
    tensors = {
        "slow": changed_weights(engine.learner.model),
        **engine_tensors(engine),
        "strategy": recipe.strategy.state(),
        "objective": recipe.objective.state(),
    }
    state: dict[str, Any] = {}
    if journal is not None:
        state = {
            "history": history.extend(results.rows, results.points),
            "task_step": task_step,
            "clock": clock.state(),
            # The journal is on the disk before the checkpoint that refers to a place in it.
            "journal_position": journal.settled(),
        }
    name = checkpoint.name_after(len(results.rows) - 1, step=task_step)
    checkpoint.save_together(engine.fabric, folder / name, Checkpoint(tensors, state), sharded=sharded)
    if journal is not None:
        # Old ones go only now that the new one is complete.
        for old in checkpoint.in_order(folder)[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old, ignore_errors=True)


def check_room(engine: Engine, folder: Path) -> None:
    """Raise OSError (ENOSPC) where the checkpoints of a run will not fit on the disk."""
    # One more than stay: the oldest goes when the newest is complete.
    more = max(KEPT_CHECKPOINTS + 1 - len(checkpoint.in_order(folder)), 1)
    what = "a checkpoint" if more == 1 else f"{more} checkpoints"
    check_space(folder, more * bytes_of_a_save(engine), what=what)


def check_saved(saved: Checkpoint) -> None:
    """Raise ValueError for a checkpoint from which no run can go on."""
    lacking = [f"{group}.safetensors" for group in GROUPS if group not in saved.tensors]
    lacking += [key for key, kind in STATE.items() if not isinstance(saved.state.get(key), kind)]
    if lacking:
        raise ValueError(f"lacks {lacking[0]}")


def restore_run(engine: Engine, recipe: Recipe, saved: Checkpoint, *, results: Results) -> Clock:
    """The inverse of `save_run`; returns the clock to go on with."""
    load_changed(engine.learner.model, placed_like(engine, saved.tensors["slow"]))
    restore_engine(engine, saved.tensors)
    recipe.strategy.restore(dict(saved.tensors["strategy"]))
    recipe.objective.restore(dict(saved.tensors["objective"]))
    results.rows, results.points = rows_from_json(saved.state["rows"]), points_from_json(saved.state["points"])
    return Clock(**saved.state["clock"])
