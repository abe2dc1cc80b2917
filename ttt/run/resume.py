"""The state of a run on disk after each task, and how a run goes on from it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ttt.devices.collective import deal
from ttt.devices.shards import placed, whole_tensors
from ttt.learner import Engine
from ttt.results.results import Results
from ttt.results.rows import compact, plain, points_from_json, rows_from_json
from ttt.run.published import changed_weights, load_changed
from ttt.storage import checkpoint
from ttt.storage.checkpoint import Checkpoint, Tensors
from ttt.storage.journal import Journal
from ttt.training.clock import Clock
from ttt.training.recipe import Recipe

# The newest may be damaged by a full disk or a dying machine: the one before it is kept too.
KEPT_CHECKPOINTS = 2


def save_run(
    engine: Engine, recipe: Recipe, *, results: Results, clock: Clock, journal: Journal | None, folder: Path
) -> None:
    """Save everything that must be the same for the run to go on as if it had never stopped.

    All processes give their shares, and the first one, which has the journal, writes. The number of
    devices may be another when the run goes on.
    """
    learner = engine.learner
    tensors: dict[str, Tensors] = {
        "slow": changed_weights(learner.model),
        "fast": engine.whole_fast(),
        "optimizer": checkpoint.optimizer_tensors(engine.optimizer, engine.order),
        "strategy": recipe.strategy.state(),
        "objective": recipe.objective.state(),
        "rng": checkpoint.rng_tensors(),
    }
    tensors = {group: whole_tensors(content, keep=journal is not None) for group, content in tensors.items()}
    if journal is None:
        return
    state = {
        "rows": plain(results.rows),
        "points": plain(compact(results.points)),
        "clock": clock.state(),
        "journal_position": journal.position,
    }
    checkpoint.save(folder / checkpoint.name_after(len(results.rows) - 1), Checkpoint(tensors, state))
    for old in checkpoint.in_order(folder)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)


def restore_run(engine: Engine, recipe: Recipe, saved: Checkpoint, *, results: Results) -> Clock:
    """The inverse of `save_run`; returns the clock to go on with."""
    learner, fabric = engine.learner, engine.fabric
    parameters = dict(learner.model.named_parameters())
    load_changed(
        learner.model,
        {
            name: placed(x, like=parameters[name]) if name in parameters else x
            for name, x in saved.tensors["slow"].items()
        },
    )
    fast = {name: x.to(fabric.device) for name, x in saved.tensors["fast"].items()}
    learner.fast = fast if engine.merges else deal(fast, fabric.global_rank, of=fabric.world_size)
    checkpoint.restore_optimizer(engine.optimizer, saved.tensors["optimizer"], engine.order)
    recipe.strategy.restore(saved.tensors["strategy"])
    recipe.objective.restore(saved.tensors["objective"])
    checkpoint.restore_rng(saved.tensors["rng"])
    results.rows, results.points = rows_from_json(saved.state["rows"]), points_from_json(saved.state["points"])
    return Clock(**saved.state["clock"])
