"""A stream learned by the stream loop, without a command around it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ttt.learner import Engine
from ttt.results.results import Results
from ttt.run.assemble import Assembly
from ttt.run.loop import Session, run_stream
from ttt.run.resume import restore_run
from ttt.storage import checkpoint
from ttt.storage.journal import Journal
from ttt.training.clock import Clock


def stream_to_the_end(
    assembly: Assembly, engine: Engine, folder: Path, *, after: Path | None = None, report_every: int = 6
) -> Results:
    """Learn a whole stream, or its rest after the checkpoint `after`, and return the results.

    `folder` receives the journal and the checkpoints.
    """
    results, clock = Results.of(assembly.stream), Clock()
    if after is not None:
        clock = restore_run(engine, assembly.recipe, checkpoint.load(after), results=results)
    folder.mkdir(exist_ok=True)
    with closing(Journal(folder / "metrics.jsonl")) as journal:
        session = Session(
            engine=engine,
            stream=assembly.stream,
            recipe=assembly.recipe,
            plan=assembly.plan,
            results=results,
            clock=clock,
            checkpoints=folder,
            journal=journal,
            report_every=report_every,
        )
        run_stream(session)
    return results
