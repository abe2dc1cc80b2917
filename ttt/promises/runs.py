"""A run of seconds without its command, and what goes on after a stop as if there had been none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ttt.learner import Engine
from ttt.promises.ruling import HOLDS, Ruling, broken, same_tensors
from ttt.results.events import Observer
from ttt.results.results import Results
from ttt.run.assemble import Assembly, assemble
from ttt.run.loop import run_stream
from ttt.run.resume import restore_run
from ttt.run.session import Session
from ttt.storage import checkpoint
from ttt.storage.checkpoint import Checkpoint, Tensors
from ttt.storage.journal import Journal
from ttt.storage.run_folder import RunFolder
from ttt.training.clock import Clock

# The part of a run that has nothing to protect.
NAIVE = {"strategy": {"_target_": "ttt.strategies.naive.Naive", "name": "naive"}, "also": None}
# What a tiny run shows by and by: one line of metrics a task.
REPORT_EVERY = 100


@dataclass(frozen=True)
class TinyRun:
    """A resolved config, from which a promise assembles as many runs as it needs.

    `trusted`: the folders of the user's own modules.
    """

    config: Mapping[str, Any]
    trusted: Sequence[Path] = field(default=())

    def assembly(self, changes: Mapping[str, Any] | None = None) -> Assembly:
        """A new assembly; `changes` stand in place of sections of the config."""
        return assemble({**self.config, **(changes or {})}, trusted=self.trusted)

    @cached_property
    def plain(self) -> Assembly:
        """An assembly that promises share, which only read it."""
        return self.assembly()


def engine_of(assembly: Assembly) -> Engine:
    """The learner of an assembly on its device, with random weights."""
    return assembly.engine(assembly.settings.fabric(), None)


def stream_through(
    assembly: Assembly, folder: Path, *, after: Path | None = None, observers: Sequence[Observer] = ()
) -> Checkpoint:
    """Learn as `learn` does, from random weights; return the last checkpoint."""
    learn(assembly, engine_of(assembly), folder, after=after, observers=observers)
    # It is read from the disk, because a run can only go on from what is written there.
    return checkpoint.load(checkpoint.in_order(folder)[-1])


def learn(
    assembly: Assembly,
    engine: Engine,
    folder: Path,
    *,
    after: Path | None = None,
    observers: Sequence[Observer] = (),
    report_every: int = REPORT_EVERY,
) -> Results:
    """Learn the whole stream, or what follows the checkpoint `after`; return the results.

    `folder` receives the journal and the checkpoints.
    """
    results, clock = Results.of(assembly.stream), Clock()
    if after is not None:
        clock = restore_run(engine, assembly.recipe, checkpoint.load(after), results=results)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(Journal(RunFolder(folder).metrics)) as journal:
        run_stream(
            Session(
                engine=engine,
                stream=assembly.stream,
                recipe=assembly.recipe,
                plan=assembly.plan,
                results=results,
                clock=clock,
                checkpoints=folder,
                journal=journal,
                observers=observers,
                report_every=report_every,
            )
        )
    return results


def goes_on(new: Callable[[], Assembly]) -> Ruling:
    """A run that stops before its last task goes on to the same bits: weights, states, results."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        whole = stream_through(new(), folder / "whole")
        # All of the second run's chance, weights and states come from the checkpoint.
        # The last checkpoint is that of the end: the one before it still has a task to learn.
        rest = stream_through(new(), folder / "rest", after=checkpoint.in_order(folder / "whole")[-2])
    for group in whole.tensors:
        tensors, again = (_without_times(saved.tensors[group]) for saved in (whole, rest))
        ruling = same_tensors(again, tensors, where=f" ({group}) of a run that went on after a stop")
        if not ruling.holds:
            return ruling
    same = whole.state["rows"] == rest.state["rows"]
    return HOLDS if same else broken("the results of a run that went on after a stop differ")


def _without_times(tensors: Mapping[str, Tensor]) -> Tensors:
    """What a clock measured differs from run to run."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("seconds")}
