"""Commands drawn at random from the project's own groups, settings and words, most of them wrong.

Each must end with a documented exit code, within its time, without a traceback; a refusal is one
line and leaves nothing behind. Command n is the same in every run, so that `--first n --times 1`
types it again.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from forked import Forked
from harness import SMALL

from ttt.cli.run import main
from ttt.cli.runs.help import Library
from ttt.run.exit_codes import ExitCode


def words(text: str) -> list[str]:
    return text.split()


# Seconds that a command of tiny sizes may take on a busy machine.
LIMIT = 90
MAY_END = {code.value for code in ExitCode} - {ExitCode.BUG}
NUMBERS = words("""0 -1 1 2 3.5 1e-3 1e38 -1e308 1e-320 .nan .inf 9223372036854775807 9223372036854775808
    10000000000000000000000000000000000000000 0x10 1_000 1e400""")
WORDS = words("""x null true None auto all ../.. /etc a/b . ??? '' é ${adapter} ${oc.env:HOME} ${missing} ${ $(id) []
    [1,2]
    [a {} {a:1} {a 1,2 range(3) choice(1,2) !!python/object:os.system *a""")
WORDS += ["", "'a b'", "\u202e", "'\x1b[31m'", 3000 * "a", "&a [*a]"]
OPTIONS = words("""--resolve --config-name=x --config-name=config --cfg=job --cfg=x --info=config --preview --dry-run -m
    --study=x --version --help --foo -x --package=a --experimental-rerun=x --config-dir=/nowhere --seeds=0 --only=seed=0
    --quiet --plain""")
HYDRA = words("""hydra.verbose hydra.run.dir hydra.job.name hydra/launcher hydra/sweeper hydra.callbacks.x
    hydra.output_subdir
    hydra.sweep.dir hydra/job_logging hydra.job.chdir hydra.x""")


class Commands:
    """Draws the nth command."""

    def __init__(self) -> None:
        library = Library([])
        self._parts = [f"{group}={name}" for group in library.groups() for name in library.options(group)]
        self._keys = [setting.key for setting in library.run.settings]
        for group in library.groups():
            if group != "experiment":
                names = {key for option in library.options(group) for key in library.keys(group, option)}
                self._keys += [f"{group}.{key}" for key in sorted(names)]

    def draw(self, n: int) -> list[str]:
        draw = random.Random(n)
        typed = [self._word(draw) for _ in range(draw.choice((1, 1, 2, 3, 5)))]
        if draw.random() < 0.15:
            typed.append(draw.choice(OPTIONS))
        return typed

    def _word(self, draw: random.Random) -> str:
        roll = draw.random()
        if roll < 0.25:
            return misspelled(draw.choice(self._parts), draw) if draw.random() < 0.3 else draw.choice(self._parts)
        key = draw.choice(HYDRA) if roll < 0.3 else draw.choice(self._keys)
        key = misspelled(key, draw) if draw.random() < 0.1 else key
        sign = draw.choice(("", "", "", "", "+", "++", "~"))
        value = draw.choice(NUMBERS) if draw.random() < 0.6 else draw.choice(WORDS)
        return f"{sign}{key}={value}"


def misspelled(word: str, draw: random.Random) -> str:
    """`word` with one character gone, doubled or replaced."""
    at = draw.randrange(len(word))
    return word[:at] + draw.choice(("", 2 * word[at], draw.choice("=.,/@ -"))) + word[at + 1 :]


def wrong_ending(code: int | None, err: str) -> str:
    """What is wrong with how a command ended; empty for a documented code without a traceback."""
    if code not in MAY_END:
        return f"exit code {code}: {err.strip()[-300:]}"
    return f"a traceback with exit code {code}: {err.strip()[-300:]}" if "Traceback" in err else ""


def complaint(words: Sequence[str], folder: Path) -> str:
    """Type one command in `folder`; return what is wrong with how it ends."""
    cache = folder.parent / "cache"
    # Sizes come first, so that what was drawn replaces them.
    process = Forked(main, ["ttt-run", *SMALL, "base.steps=3", "base.warmup=1", f"cache_dir={cache}", *words], folder)
    try:
        _, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"not done after {LIMIT} s"
    code = process.returncode
    wrong = wrong_ending(code, err)
    # Of a run, 1 says nothing.
    if not wrong and code == ExitCode.FAILED and not {"-m", "--study=x"} & set(words):
        wrong = f"exit code {code}: {err.strip()[-300:]}"
    if wrong:
        return wrong
    if code == ExitCode.USAGE:
        left = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        lines = [line for line in err.strip().splitlines() if line.startswith("ttt-run: ")]
        if len(lines) != 1:
            return f"{len(lines)} lines of refusal: {err.strip()[-300:]}"
        return f"refused, and left {', '.join(left[:3])}" if left else ""
    return ""


def fuzz(work: Path, *, first: int, times: int) -> list[str]:
    """Type commands `first` to `first + times - 1`."""
    commands, complaints = Commands(), []
    for n in range(first, first + times):
        folder = work / "typed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        words = commands.draw(n)
        wrong = complaint(words, folder)
        if wrong:
            complaints.append(f"command {n} {' '.join(words)[:200]!r}: {wrong}")
            print(complaints[-1], file=sys.stderr, flush=True)
    return complaints
