"""Run folders in whose files one value is of another kind: a list for an object, null for a number.

Every command that reads a run must end with a documented exit code and without a traceback; where
it cannot go on without that value, one line names the file. Mutation n is the same in every run.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from forked import Forked
from harness import FAST, TINY, only_run, run_apart
from random_commands import LIMIT, wrong_ending

from ttt.cli import compare, export, probe, report, run
from ttt.config.identity import digest
from ttt.storage.whole import SEAL

JOB = (*TINY, *FAST, "eval.anytime=2", "eval.samples=2", "eval.savings=true", "adapter.reset=task")
DEEP: Any = json.loads("[" * 60 + "]" * 60)
VALUES: tuple[Any, ...] = (None, True, -1, 3, 2.5, 10**30, "", "x", "\x1b[31m", [], [3], [None], ["x"], [[]], [{}], {},
                           {"x": 3}, {"": []}, DEEP)  # fmt: skip
RUN = "RUN"
COMMANDS: tuple[tuple[Callable[[], None], tuple[str, ...]], ...] = (
    (report.main, ("ttt-report", RUN, "-o", "page.html")),
    (report.main, ("ttt-report", "outputs", "-o", "page.html")),
    (compare.main, ("ttt-compare", "outputs")),
    (compare.main, ("ttt-compare", "outputs", "--per-task", "fast/loss/final")),
    (run.main, ("ttt-run", *JOB)),
    (run.main, ("ttt-run", "sync", RUN, "--logger", "csv")),
    (run.main, ("ttt-run", "clean", "outputs")),
    (probe.main, ("ttt-probe", "state", RUN)),
    (probe.main, ("ttt-probe", "context", RUN)),
    (export.main, ("ttt-export", RUN, "--to", "exported")),
)  # fmt: skip


class Place(NamedTuple):
    """One value of a file: what holds it, and its key there."""

    holder: Any
    key: Any
    name: str


def places(content: Any, name: str = "") -> Iterator[Place]:
    """Every value in `content`, at any depth."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield Place(content, key, f"{name}.{key}")
        yield from places(value, f"{name}.{key}")


def mutate(content: Any, draw: random.Random) -> str:
    """Put a value of another kind into `content`; return where, and what."""
    # Places near the top are few and matter more than each of a thousand numbers.
    by_depth: dict[int, list[Place]] = {}
    for place in places(content):
        by_depth.setdefault(place.name.count("."), []).append(place)
    place = draw.choice(by_depth[draw.choice(sorted(by_depth))])
    value = draw.choice([x for x in VALUES if type(x) is not type(place.holder[place.key])])
    place.holder[place.key] = value
    return f"{place.name} = {str(value)[:20]!r}"


def spoil(file: Path, draw: random.Random) -> str:
    """Mutate one value of a file of a run."""
    if file.suffix == ".yaml":
        content = yaml.safe_load(file.read_text())
        what = mutate(content, draw)
        file.write_text(yaml.safe_dump(content, sort_keys=False))
    elif file.suffix == ".jsonl":
        lines = file.read_text().splitlines()
        at = draw.randrange(len(lines))
        content = json.loads(lines[at])
        what = f"line {at + 1} {mutate(content, draw)}"
        lines[at] = json.dumps(content)
        file.write_text("\n".join(lines) + "\n")
    else:
        content = json.loads(file.read_text())
        # As if another program had written it, the hash fits, or is left out.
        seal = content.pop(SEAL, None) if isinstance(content, dict) else None
        what = mutate(content, draw)
        if seal and draw.random() < 0.5:
            content[SEAL] = digest(content)
        file.write_text(json.dumps(content))
    return f"{file.name} {what}"


def files_of(folder: Path) -> list[Path]:
    return sorted(file for suffix in ("json", "jsonl", "yaml") for file in folder.glob(f"*.{suffix}"))


class Mutations:
    """Draws the nth mutation of a run, and the command that reads it."""

    def __init__(self, work: Path) -> None:
        self._whole, self._folder = work / "whole", work / "spoilt"
        self._whole.mkdir(parents=True)
        assert run_apart(JOB, self._whole).code == 0
        # How each command refuses a run that is as it was written, if it does.
        self._refusals: dict[tuple[bool, int], str] = {}

    def complaint(self, n: int) -> str:
        """Mutate a copy of the run and type a command; return what is wrong with how that ends."""
        draw = random.Random(n)
        is_stopped, index = draw.random() < 0.3, draw.randrange(len(COMMANDS))
        if (is_stopped, index) not in self._refusals:
            self._copy(is_stopped=is_stopped)
            self._refusals[is_stopped, index] = self._typed(index)[1]
        run = self._copy(is_stopped=is_stopped)
        file = draw.choice(files_of(run))
        what = f"mutation {n}: {spoil(file, draw)}: {' '.join(COMMANDS[index][1][:3])}"
        code, err = self._typed(index)
        wrong = wrong_ending(code, err)
        # A setting is named with the run that has it.
        names = (file.name, str(run.relative_to(self._folder))) if file.suffix == ".yaml" else (file.name,)
        # A run whose status cannot be read counts as unfinished.
        refusal = err.replace("1 unknown", "1 requeue")
        if not wrong and code and refusal != self._refusals[is_stopped, index]:
            is_named = any(name in err for name in names) and err.count("\n") == 1
            wrong = "" if is_named else f"does not name the file in one line: {err.strip()[-300:]}"
        return f"{what}: {wrong}" if wrong else ""

    def _copy(self, *, is_stopped: bool) -> Path:
        """The run as it was written, or as if it had been stopped before its end."""
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._whole, self._folder)
        run = only_run(self._folder)
        if is_stopped:
            (run / "results.json").unlink()
            (run / "status.json").write_text('{"status": "requeue", "reason": "", "time": ""}')
        return run

    def _typed(self, index: int) -> tuple[int, str]:
        main, words = COMMANDS[index]
        run = str(only_run(self._folder).relative_to(self._folder))
        process = Forked(main, [run if word == RUN else word for word in words], self._folder)
        try:
            _, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            return -1, f"not done after {LIMIT} s"
        assert process.returncode is not None
        return process.returncode, err


def fuzz_kinds(work: Path, *, first: int, times: int) -> list[str]:
    """Try mutations `first` to `first + times - 1`."""
    mutations, complaints = Mutations(work), []
    for n in range(first, first + times):
        wrong = mutations.complaint(n)
        if wrong:
            complaints.append(wrong)
            print(wrong, file=sys.stderr, flush=True)
    return complaints
