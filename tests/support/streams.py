"""A stream learned by the stream loop, without a command around it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ttt.evaluation.diagnose import Diagnosis
from ttt.learner import slow_hash
from ttt.results.events import Event, Observer
from ttt.results.results import Results
from ttt.run.assemble import Assembly
from ttt.run.loop import run_stream
from ttt.run.resume import restore_run
from ttt.run.session import Session
from ttt.storage import checkpoint
from ttt.storage.journal import Journal
from ttt.training.clock import Clock


class Streamed:
    """A run without its command.

    With a folder it keeps a journal and checkpoints there, and goes on from what lies in it.
    """

    def __init__(self, assembly: Assembly, folder: Path | None = None, watch: Observer | None = None) -> None:
        self.events: list[Event] = []
        self.results = Results.of(assembly.stream)
        self.engine = assembly.engine(assembly.settings.fabric(), None)
        strategy, stream = assembly.recipe.strategy, assembly.stream
        is_probed = assembly.plan.diagnostics
        diagnosis = Diagnosis.at_base(self.engine, stream, strategy=strategy) if is_probed else None
        saved = checkpoint.load_newest(folder)[0] if folder else None
        self.clock = restore_run(self.engine, assembly.recipe, saved, results=self.results) if saved else Clock()
        session = Session(
            engine=self.engine,
            stream=stream,
            recipe=assembly.recipe,
            plan=assembly.plan,
            results=self.results,
            clock=self.clock,
            checkpoints=folder or Path(),
            observers=[watch or self.events.append],
            diagnosis=diagnosis,
            report_every=4,
        )
        if folder is None:
            # A run whose tasks take long saves them somewhere.
            with TemporaryDirectory() as place:
                session.checkpoints = Path(place)
                run_stream(session)
            return
        with closing(Journal(folder / "metrics.jsonl", position=saved.state["journal_position"] if saved else 0)) as j:
            session.journal = j
            run_stream(session)

    def left(self) -> tuple[str, list[bytes]]:
        """Return everything that a run leaves behind, as bytes."""
        learner, optimizer = self.engine.learner, self.engine.optimizer
        moments = [optimizer.state.get(p, {}) for p in self.engine.order]
        tensors = [x for _, x in sorted({**learner.fast, **checkpoint.rng_tensors()}.items())]
        tensors += [torch.as_tensor(x) for state in moments for _, x in sorted(state.items()) if x is not None]
        return slow_hash(learner.model), [x.numpy().tobytes() for x in tensors]
