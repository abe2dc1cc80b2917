"""Runs that are stopped where they come to rest, and go on in what a new process would build."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from ttt.learner import Engine
from ttt.results.results import Results
from ttt.results.saved import as_json
from ttt.run.assemble import Assembly
from ttt.run.loop import run_stream
from ttt.run.resume import check_saved, restore_run
from ttt.run.session import Session
from ttt.storage import checkpoint
from ttt.storage.journal import Journal
from ttt.training.clock import Clock
from ttt.training.saving import Saving, StoppedError

New = Callable[[], tuple[Assembly, Engine]]
TIMES = ("seconds", "tokens_per_second")


class Asked:
    """Asks to stop the `at`-th time that a run comes to rest (None: never)."""

    def __init__(self, at: int | None) -> None:
        self.rests, self._at = 0, at

    def __call__(self) -> int | None:
        self.rests += 1
        return signal.SIGTERM if self.rests == self._at else None


def go_on(new: New, folder: Path, *, stop: Asked, report_every: int) -> Results | None:
    """Run, or go on with what lies in `folder`; None if it was stopped."""
    assembly, engine = new()
    results, clock, state = Results.of(assembly.stream), Clock(), {"task_step": 0, "journal_position": 0}
    saved, complaints = checkpoint.load_newest(folder, check=check_saved)
    assert not complaints
    if saved is not None:
        clock, state = restore_run(engine, assembly.recipe, saved, results=results), saved.state
    folder.mkdir(exist_ok=True)
    with closing(Journal(folder / "metrics.jsonl", position=state["journal_position"])) as journal:
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
            task_step=state["task_step"],
            saving=Saving(stop=stop),
        )
        try:
            run_stream(session)
        except StoppedError:
            return None
    return results


def hashes(folder: Path, results: Results) -> dict[str, str]:
    """Return SHA-256 of everything that a run leaves behind but its times, by what it is."""
    last = checkpoint.load(checkpoint.in_order(folder)[-1])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    content: dict[str, Any] = {group: without_times(tensors) for group, tensors in last.tensors.items()}
    content |= {"results": as_json(results), "metrics": [without_times(line) for line in lines]}
    return {
        name: hashlib.sha256(json.dumps(x, sort_keys=True, default=repr).encode()).hexdigest()
        for name, x in content.items()
    }


def without_times(content: Any) -> Any:
    if not isinstance(content, dict):
        return content.tolist() if hasattr(content, "tolist") else content
    return {key: without_times(x) for key, x in content.items() if not key.endswith(TIMES)}


def unbroken(new: New, folder: Path, *, report_every: int = 1) -> tuple[dict[str, str], int]:
    """Run to the end; return the hashes, and how often the run came to rest."""
    stop = Asked(None)
    results = go_on(new, folder, stop=stop, report_every=report_every)
    assert results is not None
    return hashes(folder, results), stop.rests


def broken(new: New, folder: Path, *, stops: Iterable[int], report_every: int = 1) -> dict[str, str]:
    """Stop the n-th time that each process comes to rest, for each n of `stops`; then go on."""
    for at in stops:
        assert go_on(new, folder, stop=Asked(at), report_every=report_every) is None
    results = go_on(new, folder, stop=Asked(None), report_every=report_every)
    assert results is not None
    return hashes(folder, results)
