"""The state of a run on disk after each task, and how a run goes on from it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ttt.devices.collective import deal
from ttt.devices.shards import gather, placed
from ttt.learner import Engine
from ttt.results.results import Results
from ttt.results.rows import compact, points_from_json, rows_from_json
from ttt.storage import checkpoint
from ttt.storage.checkpoint import Checkpoint, Tensors
from ttt.storage.journal import Journal, plain
from ttt.training.clock import Clock

KEPT_CHECKPOINTS = 2


def save(engine: Engine, *, results: Results, clock: Clock, journal: Journal | None, folder: Path) -> None:
    """Everything that must be the same for the run to go on as if it had never stopped, whatever the devices.

    All processes give their shares, the first one writes.
    """
    learner = engine.learner
    tensors: dict[str, Tensors] = {
        "slow": dict(learner.model.named_parameters()),
        "fast": engine.whole_fast(),
        "optimizer": checkpoint.optimizer_tensors(engine.optimizer, engine.order),
        "strategy": learner.strategy.state(),
        "objective": learner.objective.state(),
        "rng": checkpoint.rng_tensors(),
    }
    tensors = {group: gather(content, keep=journal is not None) for group, content in tensors.items()}
    if journal is None:
        return
    state = {
        "rows": plain(results.rows),
        "points": plain(compact(results.points)),
        "clock": clock.state(),
        "journal_position": journal.position,
    }
    checkpoint.save(folder / f"task-{len(results.rows) - 1:04d}", Checkpoint(tensors, state))
    for old in sorted(folder.glob("task-*"))[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)


def restore(engine: Engine, saved: Checkpoint, *, results: Results) -> Clock:
    """The inverse of `save`; the devices may be others."""
    learner, fabric = engine.learner, engine.fabric
    own = dict(learner.model.named_parameters())
    slow = {name: placed(x, like=own[name]) if name in own else x for name, x in saved.tensors["slow"].items()}
    learner.model.load_state_dict(slow)
    fast = {name: x.to(fabric.device) for name, x in saved.tensors["fast"].items()}
    learner.fast = fast if engine.merges else deal(fast, fabric.global_rank, of=fabric.world_size)
    checkpoint.restore_optimizer(engine.optimizer, saved.tensors["optimizer"], engine.order)
    learner.strategy.restore(saved.tensors["strategy"])
    learner.objective.restore(saved.tensors["objective"])
    checkpoint.restore_rng(saved.tensors["rng"])
    results.rows, results.points = rows_from_json(saved.state["rows"]), points_from_json(saved.state["points"])
    return Clock(**saved.state["clock"])
