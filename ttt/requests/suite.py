"""Tasks of lm-eval, which a model is asked to do."""

from __future__ import annotations

import difflib
import fnmatch
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttt.config.extras import install

if TYPE_CHECKING:
    from ttt.requests.model import RunModel

# Beside ours, those that make the numbers.
PACKAGES = ("ttt", "lm_eval", "torch", "transformers", "datasets", "numpy")
# What lm-eval draws with by default, so that its own models get the same examples.
SEEDS = (0, 1234, 1234, 1234)
# lm-eval fits the solved example of this task, of at least so many characters, into so many tokens;
# where it does not fit, it would try for ever.
EXAMPLE_TASK, EXAMPLE_CHARACTERS, EXAMPLE_TOKENS = "ruler_vt", 900, 500
# The value of a RULER metric of whose length there is no example.
ABSENT = -1


@dataclass(frozen=True)
class Suite:
    """Which tasks, and how many examples of each: `limit` (None: all), `shots` (None: as written).

    `include`: a folder with YAML tasks of one's own; `metadata`: what tasks read of it.
    """

    tasks: Sequence[str]
    limit: int | None = None
    shots: int | None = None
    include: Path | None = None
    metadata: Mapping[str, Any] | None = None
    seed: int | None = None

    @property
    def seeds(self) -> dict[str, int]:
        """lm-eval's seeds by their names there; its own, where none was typed."""
        names = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
        return dict(zip(names, SEEDS if self.seed is None else [self.seed] * len(names), strict=True))


def load_library() -> Any:
    """The package lm_eval. Raises ValueError if it is not installed."""
    try:
        # Imported here: it takes seconds.
        import lm_eval
    except ImportError as error:
        raise ValueError(f"lm-eval is not installed: {install('eval')}") from error
    # Its notes on each task would hide the table.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return lm_eval


def manager_of(suite: Suite) -> Any:
    """lm-eval's list of tasks. Raises ValueError for a task that is not on it."""
    load_library()
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=suite.include and str(suite.include), metadata=dict(suite.metadata or {}))
    for task in suite.tasks:
        if not fnmatch.filter(manager.all_tasks, task):
            # There are over ten thousand: only the nearest are named.
            parts = [name for name in manager.all_tasks if task in name.split("_")]
            near = difflib.get_close_matches(task, manager.all_tasks, n=3) or sorted(parts, key=len)[:3]
            hint = f"did you mean {' or '.join(near)}?" if near else "lm-eval ls tasks lists all"
            raise ValueError(f"--tasks {task}: unknown; {hint}")
    return manager


def run_suite(suite: Suite, model: RunModel, manager: Any) -> dict[str, Any]:
    """What lm-eval measured: `results` by task and metric, `versions` of tasks, examples, shots.

    Raises ValueError for a task whose data or packages are not there.
    """
    names = sorted({name for task in suite.tasks for name in fnmatch.filter(manager.all_tasks, task)})
    _check_example(names, model)
    try:
        raw: dict[str, Any] = load_library().simple_evaluate(
            model=model, tasks=names, num_fewshot=suite.shots, limit=suite.limit, log_samples=False,
            task_manager=manager, **suite.seeds,
        )  # fmt: skip
    except (ImportError, OSError, AssertionError, KeyError, TypeError) as error:
        # What fails before the first request fails in the task, not in the model.
        if model.requests:
            raise
        raise ValueError(f"--tasks {','.join(suite.tasks)}: {_reason(error)}") from error
    parts = {"task_versions": "versions", "examples": "n-samples", "shots": "n-shot", "better": "higher_is_better"}
    return {"results": _measured(raw["results"])} | {name: raw.get(key, {}) for name, key in parts.items()}


def _check_example(names: Sequence[str], model: RunModel) -> None:
    """Raise ValueError for a task whose example is too long in the tokens of the model."""
    text = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
    tokens = EXAMPLE_CHARACTERS * len(model.tok_encode(text)) / len(text)
    # The group contains the task.
    if tokens > EXAMPLE_TOKENS and {EXAMPLE_TASK, "ruler"} & set(names):
        raise ValueError(
            f"--tasks {EXAMPLE_TASK}: its example must fit into {EXAMPLE_TOKENS} tokens and takes {tokens:.0f} of this "
            "model; not with tokens of bytes"
        )


def installed() -> dict[str, str | None]:
    """The version of each package that makes the numbers."""
    return {name: _version(name) for name in PACKAGES}


def _measured(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The results without metrics of lengths that were not asked for, and without their errors."""
    rows = {}
    for task, row in results.items():
        names = {key.partition(",")[0] for key, value in row.items() if key[0].isdecimal() and value == ABSENT}
        rows[task] = {
            key: value
            for key, value in row.items()
            if key.partition(",")[0].removesuffix("_stderr") not in names and key not in ("name", "alias", "sample_len")
        }
    return rows


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    offline = ("offline", "Couldn't reach", "couldn't connect", "Cannot send a request", "LocalEntryNotFound")
    if isinstance(error, ConnectionError) or any(word in text for word in offline):
        return "its data are not on this disk, and the hub cannot be reached"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"needs the package {error.name}, which is not installed"
    return f"cannot be loaded: {text[:200] or type(error).__name__}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
