"""`eval.samples`: what the model writes before the stream, after learning a task, and at the end.

samples.jsonl   {"row": 0, "task": 0, "task_name": "eng", "mode": "fast", "opening": "All human
                 beings", "text": " are born free"}
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ttt.adapters.evolving import Evolving
from ttt.config.messages import show
from ttt.evaluation.generate import continuations
from ttt.learner import Learner
from ttt.run.session import Session
from ttt.storage.content import Written
from ttt.storage.files import write_bytes
from ttt.storage.journal import whole_records
from ttt.storage.run_folder import RunFolder
from ttt.stream import Stream


def check_samples(tokens: Any, *, stream: Stream, learner: Learner, is_cut: bool) -> None:
    """Raise ValueError where `eval.samples` tokens cannot be generated."""
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
        raise ValueError(f"eval.samples={show(tokens)}: must be a number of tokens, at least 0")
    if not tokens:
        return
    if stream.vector_size is not None:
        raise ValueError(f"eval.samples={tokens}: the stream is of vectors, and a model of these writes none")
    if is_cut:
        raise ValueError(f"eval.samples={tokens}: not with trainer.strategy=fsdp, whose parameters are cut")
    if isinstance(learner.adapter, Evolving):
        raise ValueError(f"eval.samples={tokens}: adapter={learner.adapter.name} has no prompt for openings")


def write_samples(session: Session, row: int) -> None:
    """Add what the model writes after row `row` of R, if the run samples at all."""
    phases, tokens = session.stream.phases, session.plan.samples
    if not tokens or session.journal is None:
        return
    tasks = list(range(len(session.stream.tasks))) if row in (0, len(phases)) else [phases[row - 1].task]
    written = continuations(session.engine, session.stream, tasks, recipe=session.recipe, tokens=tokens)
    file = RunFolder(session.checkpoints.parent).written
    # A run that was stopped beyond its checkpoint has written this row before.
    lines = [line for line in whole_records(file, kind=Written) if line["row"] < row]
    lines += [{"row": row, **asdict(each)} for each in written]
    # The whole file is written anew: a process that dies on the way leaves the old one.
    write_bytes(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
