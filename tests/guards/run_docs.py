"""Follow the docs as a reader would: type every command and run every block of Python.

    python tests/guards/run_docs.py                    all pages
    python tests/guards/run_docs.py README.md docs/howto/reading.md

Each page begins in a folder with what a reader has by then: small runs in outputs/, `examples`, and
files of the names that the pages use. RUN stands for one of the runs. Says of each line whether it
worked, how it failed or why it was not run, and its seconds. Exit code 1: a line failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from pages_as_typed import Typed, files_on, typed_on, typed_pages  # noqa: E402

# Small runs in place of the sweeps that the pages begin with: two methods, rates and seeds.
SMALL = (
    "task=split-sequence task.num_tasks=3 task.steps_per_task=4 task.eval_sequences=4 base.steps=20 model.layers=1 "
    "trainer.threads=1 logger=none report=false sweep.jobs=1"
)
SETUP = (
    f"ttt-run -m {SMALL} adapter=none,mlp_fast optimizer.lr=3e-4,1e-3 seeds=2",
    f"ttt-run -m {SMALL} adapter=mlp_fast strategy=replay optimizer.lr=1e-3 seeds=2",
)
# A run of full size, which blocks of Python make: pages share it.
FULL = "split-sequence/mlp_fast-naive-adamw/seed1-*"
# Seconds for a command; blocks of Python have no limit.
LIMIT = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="pages of the docs; without: all")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for a command; over it: not run")
    options = parser.parse_args()
    chosen = [page.resolve() for page in options.pages] or typed_pages()
    with tempfile.TemporaryDirectory(prefix="ttt-docs-") as folder:
        reader = Reader(Path(folder), limit=options.limit)
        reader.begin()
        failed = sum(reader.follow(page) for page in chosen)
    print(f"{failed} failed", flush=True)
    return int(failed > 0)


class Reader:
    """Somebody who follows pages, each in a folder of its own."""

    def __init__(self, folder: Path, *, limit: float) -> None:
        self._folder, self._limit = folder, limit
        self._start = folder / "start"
        # Runs of full size lie apart: most pages are about runs of one stream.
        self._full = folder / "full"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = os.environ | {"PATH": path, "TTT_CACHE": str(folder / "cache"), "WANDB_MODE": "offline"}

    def begin(self) -> None:
        """Make what every page begins with."""
        self._start.mkdir()
        write_files(self._start)
        for command in SETUP:
            word, seconds = self._shell(command, self._start, limit=3600)
            print(f"{word or 'ok':<8}{seconds:6.1f} s  to begin with: {command[:90]}", flush=True)

    def follow(self, page: Path) -> int:
        """Do what a page says; return how much of it failed."""
        lines = list(typed_on(page))
        has_python = any(typed.language == "python" for typed in lines)
        place = self._folder / "-".join(page.relative_to(ROOT).with_suffix("").parts)
        shutil.copytree(self._start, place)
        if has_python and self._full.exists():
            shutil.copytree(self._full, place / "outputs", dirs_exist_ok=True)
        for name, text in files_on(page):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        names: dict[str, object] = {"__name__": "__main__"}
        failed = 0
        for typed in lines:
            failed += self._say(typed, *self._do(typed, place, names))
        if has_python:
            for run in (place / "outputs").glob(FULL):
                if not list(self._start.glob(f"outputs/{run.relative_to(place / 'outputs')}")):
                    shutil.copytree(run, self._full / run.relative_to(place / "outputs"), dirs_exist_ok=True)
        shutil.rmtree(place)
        return failed

    def _do(self, typed: Typed, place: Path, names: dict[str, object]) -> tuple[str, float]:
        """What went wrong, or nothing, and the seconds."""
        if typed.skipped:
            return f"not run: {typed.skipped}", 0.0
        text = in_place_of_names(typed.text, place)
        if typed.language == "python":
            return self._python(text, place, names)
        return self._shell(text, place, limit=self._limit)

    def _say(self, typed: Typed, word: str, seconds: float) -> bool:
        is_failed = bool(word) and not word.startswith("not run")
        state = "FAILED" if is_failed else "not run" if word else "ok"
        print(f"{state:<8}{seconds:6.1f} s  {typed.page.relative_to(ROOT)}:{typed.line}  {typed.short}", flush=True)
        if word:
            print(f"{'':18}{word}", flush=True)
        return is_failed

    def _shell(self, command: str, place: Path, *, limit: float) -> tuple[str, float]:
        start = time.monotonic()
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=place, env=self._environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"not run: takes longer than {limit:.0f} s", time.monotonic() - start
        last = (output.strip().splitlines() or [""])[-1]
        word = f"exit code {process.returncode}: {last}" if process.returncode else ""
        return word, time.monotonic() - start

    def _python(self, text: str, place: Path, names: dict[str, object]) -> tuple[str, float]:
        start, before = time.monotonic(), dict(os.environ)
        os.environ.update(self._environment)
        try:
            with contextlib.chdir(place), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                exec(compile(text, "block of Python", "exec"), names)
        except Exception as error:
            return f"{type(error).__name__}: {error}", time.monotonic() - start
        finally:
            os.environ.clear()
            os.environ.update(before)
        return "", time.monotonic() - start


def write_files(folder: Path) -> None:
    """Files of the names that the pages use."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    # A file for each poet, as examples have them, and a folder for each, as source=text takes them.
    shutil.copytree(ROOT / "examples" / "poems", folder / "poems")
    for poet in ("basho", "buson", "issa"):
        (folder / "poems" / poet).mkdir()
        poems = "".join(f"{poet}, poem {i}: an old pond, a frog leaps, sound {i} of water.\n" for i in range(150))
        (folder / "poems" / poet / "a.txt").write_text(poems)
    for name in ("book", "part2", "a", "b", "c"):
        (folder / f"{name}.txt").write_text("".join(f"In {name}, page {i} follows page {i - 1}.\n" for i in range(99)))
    talk = [{"session": name, "text": f"I am {name}. " * 20} for name in ("ann", "bob")]
    (folder / "talk.jsonl").write_text("".join(json.dumps(line) + "\n" for line in talk))
    rows = [{"body": f"This is row {i} of kind {i % 12}. " * 20, "kind": f"kind {i % 12}"} for i in range(240)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def in_place_of_names(text: str, place: Path) -> str:
    """Put real runs and sweeps where a page has RUN, or a name that differs for each reader."""
    for name, pattern in NAMES.items():
        if re.search(name, text):
            text = re.sub(name, next(_folders(place, pattern)), text)
    return text


def _folders(place: Path, pattern: str) -> Iterator[str]:
    return (str(path.relative_to(place)) for path in sorted(place.glob(pattern)))


# What stands for a folder on the pages, and where such a folder lies.
NAMES = {
    r"\bRUN\b": "outputs/split-sequence/mlp_fast-naive-adamw/seed0-*",
    r"outputs/sweeps/\d+-\d+-\d+": "outputs/sweeps/*",
}

if __name__ == "__main__":
    sys.exit(main())
