"""The promises of a part, by its group: each a sentence and a function that rules on it."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from ttt.probes.causality import unprobed
from ttt.probes.untouched import untouched
from ttt.promises import learning, reading, shapes, sources, strategy, tasks
from ttt.promises.reading import ReadingCase
from ttt.promises.ruling import Ruling, broken, not_given
from ttt.promises.runs import TinyRun, engine_of
from ttt.run.data import build_data, build_source
from ttt.stream import Source, Stream
from ttt.training.train import train

# Sequences that are read, and steps that are learned before, so that fast weights matter.
SEQUENCES, TOKENS, STEPS = 3, 40, 6

Case = TypeVar("Case")
Judge = Callable[[], Ruling]


def promises_of(group: str, run: TinyRun) -> dict[str, Judge]:
    """Return what the part that `run` has in this group promises.

    Raises ValueError, in the user's words, for a run that cannot be put together. A part that fails
    there in another way breaks the only promise that is returned.
    """
    try:
        return _promises_of(group, run)
    except ValueError:
        raise
    except Exception as error:
        return {"a run can be put together with it": partial(_raise, error)}


def _promises_of(group: str, run: TinyRun) -> dict[str, Judge]:
    if group == "source":
        return _bound(sources.PROMISES, _source_case(run))
    if group == "task":
        return _bound(tasks.PROMISES, _task_case(run))
    # Put together here, so that what does not fit is refused before any promise.
    assert run.plain is not None
    if group == "strategy":
        return _bound(strategy.PROMISES, strategy.StrategyCase(run))
    if group == "optimizer":
        return _bound(learning.OF_OPTIMIZERS, run)
    if group == "model":
        more = _bound(shapes.AFTER_MODELS, run) | _reading(reading.OF_MODELS, run)
        return _after(_bound(shapes.OF_MODELS, run), more | _bound(learning.OF_MODELS, run), run)
    more = _bound(shapes.AFTER_ADAPTERS, run) | _reading(reading.OF_ADAPTERS, run)
    return _after(_bound(shapes.OF_ADAPTERS, run), more | _bound(learning.OF_ADAPTERS, run), run)


def _raise(error: Exception) -> Ruling:
    raise error


def _after(first: Mapping[str, Judge], more: Mapping[str, Judge], run: TinyRun) -> dict[str, Judge]:
    """All of these promises, of which `more` stand on those that come first."""
    return {**first, **{words: partial(_if_kept, first, judge, run) for words, judge in more.items()}}


def _if_kept(first: Mapping[str, Judge], judge: Judge, run: TinyRun) -> Ruling:
    is_broken = any(rule(earlier, trusted=run.trusted).holds is False for earlier in first.values())
    return not_given("not tried, since it stands on a promise that is broken") if is_broken else judge()


def rule(judge: Judge, *, trusted: Sequence[Path]) -> Ruling:
    """Rule on a promise; a part that raises an error breaks it."""
    try:
        return judge()
    except Exception as error:
        # The last line of the user's own that was reached.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_below(frame.filename, trusted)]
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        return broken(f"{type(error).__name__}: {' '.join(str(error).split())}{where}")


def _is_below(file: str, folders: Sequence[Path]) -> bool:
    return any(folder.resolve() in Path(file).resolve().parents for folder in folders)


def _bound(promises: Mapping[str, Callable[[Case], Ruling]], case: Case) -> dict[str, Judge]:
    return {words: partial(promise, case) for words, promise in promises.items()}


@dataclass(frozen=True)
class _Learned:
    """Learners that have learned a little, so that fast weights matter, and what they read."""

    run: TinyRun
    token_BT: Tensor

    @cached_property
    def usual(self) -> ReadingCase:
        return self._case(self.run.config["adapter"])

    @cached_property
    def apart(self) -> ReadingCase:
        """The same, but with fast weights that documents do not share."""
        section = self.run.config["adapter"]
        is_apart = section.get("reset", "sequence") == "sequence"
        return self.usual if is_apart else self._case({**section, "reset": "sequence"})

    def _case(self, section: Mapping[str, Any]) -> ReadingCase:
        assembly = self.run.assembly({"adapter": section})
        engine, phase = engine_of(assembly), assembly.stream.phases[0]
        list(train(engine, phase, recipe=assembly.recipe, steps=STEPS, report_every=STEPS))
        return ReadingCase(engine.learner, self.token_BT, chunk=section.get("chunk"))


def _reading(promises: Mapping[str, Callable[[ReadingCase], Ruling]], run: TinyRun) -> dict[str, Judge]:
    """Promises about reading, of a learner that has learned a little."""
    token_BT = run.plain.stream.tasks[-1].evaluation().tokens_BT[:SEQUENCES, :TOKENS]
    why = unprobed(run.plain.learner, token_BT)
    if why:
        return {words: partial(not_given, why) for words in promises}
    learned = _Learned(run, token_BT)
    return {words: partial(_heard, promise, learned) for words, promise in promises.items()}


def _heard(promise: Callable[[ReadingCase], Ruling], learned: _Learned) -> Ruling:
    case = learned.usual
    if promise is reading.packed_documents:
        try:
            case = learned.apart
        except ValueError as error:
            # Its constructor may allow other lifetimes only.
            return not_given(str(error))
    # What starts at zero would move no score, whatever leaks into it.
    with untouched(case.learner):
        return promise(case)


def _task_case(run: TinyRun) -> tasks.TaskCase:
    def cut(seed: int) -> Stream:
        config = {**run.config, "seed": seed}
        return build_data(config, base_seed=config["base"]["seed"], trusted=run.trusted)[1]

    # Cut once here, so that what does not fit is refused before any promise.
    cut(0)
    return tasks.TaskCase(cut)


def _source_case(run: TinyRun) -> sources.SourceCase:
    def anew() -> Source:
        # Prepared data that a changed source left behind would hide that it changed.
        with tempfile.TemporaryDirectory() as cache:
            return build_source({**run.config, "source": _elsewhere(run.config["source"], cache)}, run.trusted)

    source = build_source(run.config, run.trusted)
    case = sources.SourceCase(source, anew, run.config["task"]["seq_len"])
    # Drawn once here: sequences of another length, or problems in place of text, are refused.
    case.draw(source, 0)
    return case


def _elsewhere(section: Mapping[str, Any], cache: str) -> dict[str, Any]:
    """A source that prepares its data in an empty folder."""
    return {key: cache if key == "cache_dir" else value for key, value in section.items()}
