"""Promises about stopping, tried hard: slow, and therefore no part of the tests.

    python tests/torture/torture.py                       all but trackers (about 12 minutes on two cores)
    python tests/torture/torture.py steps [JOB ...]       every kind of part, stopped at every step
    python tests/torture/torture.py forty                 40 steps, stopped at each of them in turn
    python tests/torture/torture.py kills --times 50      kill -9 at random times over eight kinds of runs
    python tests/torture/torture.py signals --times 20    SIGTERM, SIGINT, SIGUSR1, SIGHUP at random times
    python tests/torture/torture.py damage                every byte region of the newest checkpoint
    python tests/torture/torture.py fuzz --times 2000     commands drawn at random, most of them wrong
    python tests/torture/torture.py kinds --times 400     files of runs with values of wrong kinds
    python tests/torture/torture.py starts --times 160    one run typed eight times at once, in 20 rounds
    python tests/torture/torture.py two --times 20        runs of two processes, half of them by torchrun
    python tests/torture/torture.py trackers              W&B in trouble: what it costs (not among all)
    python tests/torture/torture.py soak                  500 tasks: what a run holds and a task costs

Each compares SHA-256 of what is left behind with that of a run that nothing stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))


from harness import FAST, TINY, only_run
from killed_jobs import KILLED, SAVE_EVERY, steps_lost
from random_commands import fuzz
from random_kinds import fuzz_kinds
from soaking import SIZES, soak
from stopped_jobs import ADAM, JOBS, NANO
from stopping import broken, unbroken
from strategy_jobs import make
from tracker_costs import compare_trackers

FORTY = (*NANO, *ADAM, "task.num_tasks=4", "task.steps_per_task=10", "strategy=replay", "strategy.size=12")
# A run of some seconds that saves all the time.
COMMAND = (*TINY, *FAST, "task.num_tasks=4", "task.steps_per_task=150", "adapter.reset=never", "strategy=ewc",
           "trainer.save_every=5", "trainer.report_every=5", "eval.anytime=50")  # fmt: skip
# A run of a second on two devices, and what starts its processes from outside.
TWO = (*TINY, *FAST, "task.batch_size=4", "trainer=ddp", "trainer.threads=1", "trainer.accelerator=cpu")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# How often one run is typed at once.
STARTS = 8
# Exit codes of a run that was stopped and can go on.
MAY_END = {signal.SIGKILL: {-9}, signal.SIGINT: {130}, signal.SIGTERM: {75}, signal.SIGUSR1: {75}, signal.SIGHUP: {75}}


def every_step(name: str, job: Sequence[str], work: Path) -> str:
    """Stop at each rest, each time in a run of its own; then stop at every one in one run."""
    whole, rests = unbroken(lambda: make(*job), work / "whole")
    for at in [*range(1, rests), None]:
        stops = [1] * (rests - 2) if at is None else [at]
        folder = work / f"stopped-{at}"
        if broken(lambda: make(*job), folder, stops=stops) != whole:
            return f"{name}: differs after a stop at rest {at} of {rests}"
        shutil.rmtree(folder)
    return ""


def steps(work: Path, typed: argparse.Namespace) -> list[str]:
    names = typed.jobs or list(JOBS)
    return [every_step(name, JOBS[name], fresh(work / name)) for name in names]


def forty(work: Path, typed: argparse.Namespace) -> list[str]:
    return [every_step("40 steps", FORTY, fresh(work))]


def kills(work: Path, typed: argparse.Namespace) -> list[str]:
    """Spread over bases, training, evaluations, searches and saves of every kind."""
    complaints, each = [], math.ceil(typed.times / len(KILLED))
    for name, words in KILLED.items():
        complaints += [f"{name}: {line}" for line in hit(work / name, [signal.SIGKILL], times=each, words=words)]
    return complaints


def signals(work: Path, typed: argparse.Namespace) -> list[str]:
    return hit(work, [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP], times=typed.times, words=COMMAND)


def hit(work: Path, numbers: Sequence[int], *, times: int, words: Sequence[str]) -> list[str]:
    """Send a signal at a random time, and type the command again, until it is done."""
    start = time.monotonic()
    # Each run trains a base of its own, so that signals meet that too.
    words = (*words, "cache_dir=cache")
    whole = results(fresh(work / "whole"), words)
    length, draw, folder, complaints = time.monotonic() - start, random.Random(0), fresh(work / "hit"), []
    for turn in range(times):
        number = numbers[turn % len(numbers)]
        process = command(folder, words)
        try:
            # The first seconds are those of Python, in which there is nothing to lose.
            code = process.wait(timeout=draw.uniform(0.2, 0.9) * length)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            code = process.wait(timeout=120)
        # Before our handlers stand, a signal ends the process as it ends any other.
        if code not in {0, -number, 128 + number, *MAY_END[number]}:
            complaints.append(f"signal {number}, turn {turn}: exit code {code}")
        lost = steps_lost(folder, words) if number == signal.SIGKILL else 0
        complaints += [f"turn {turn}: {lost} steps lost"] if lost > SAVE_EVERY else []
        left = list(folder.glob("outputs/*/*/*/lock")) if number != signal.SIGKILL else []
        complaints += [f"signal {number}, turn {turn}: the lock is still there"] if left else []
        if code == 0:
            complaints += [] if results(folder, words) == whole else [f"turn {turn}: other results"]
            folder = fresh(work / "hit")
    complaints += [] if results(folder, words) == whole else ["in the end: other results"]
    return complaints


def damage(work: Path, typed: argparse.Namespace) -> list[str]:
    """Spoil each file of the newest checkpoint in turn: the run goes on from the one before."""
    whole, complaints = results(fresh(work / "whole")), []
    names = [path.name for path in sorted(newest(work / "whole").iterdir())]
    for name in names:
        for how in (flip, cut, empty, Path.unlink):
            folder = work / "damaged"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(work / "whole", folder)
            how(newest(folder) / name)
            # As if it had been stopped after that checkpoint.
            (only_run(folder) / "results.json").unlink()
            (only_run(folder) / "status.json").write_text('{"status": "requeue"}')
            complaints += [] if results(folder) == whole else [f"{name} after {how.__name__}: other results"]
    return complaints


def wrong(work: Path, typed: argparse.Namespace) -> list[str]:
    return fuzz(work, first=typed.first, times=typed.times)


def kinds(work: Path, typed: argparse.Namespace) -> list[str]:
    return fuzz_kinds(work, first=typed.first, times=typed.times)


def long_stream(work: Path, typed: argparse.Namespace) -> list[str]:
    return soak(lambda folder: command(folder, [*TINY, *FAST, *SIZES]), fresh(work))


def two(work: Path, typed: argparse.Namespace) -> list[str]:
    """Short runs of two processes, half of them by torchrun: all end well, and alike."""
    complaints, ends = [], set()
    for turn in range(typed.times):
        folder = fresh(work / "two")
        code = command(folder, [*TWO, "trainer.devices=2"] if turn % 2 else TWO, by=[] if turn % 2 else TORCHRUN).wait()
        complaints += [f"run {turn}: exit code {code}: {(folder / 'log').read_text().strip()[-300:]}"] if code else []
        ends.add("" if code else digest(folder))
    return complaints + ([f"{len(ends)} different results"] if len(ends) > 1 else [])


def starts(work: Path, typed: argparse.Namespace) -> list[str]:
    """One run is typed eight times at once: one process has it, the others are refused in a line."""
    whole, complaints = results(fresh(work / "whole")), []
    for turn in range(math.ceil(typed.times / STARTS)):
        folder = fresh(work / "at-once")
        codes = sorted(process.wait() for process in [command(folder) for _ in range(STARTS)])
        # Who comes after the end is shown the results.
        complaints += [] if codes[0] == 0 and set(codes) <= {0, 2} else [f"round {turn}: exit codes {codes}"]
        complaints += [f"round {turn}: a traceback"] if "Traceback" in (folder / "log").read_text() else []
        complaints += [] if digest(folder) == whole else [f"round {turn}: other results"]
    return complaints


def trackers(work: Path, typed: argparse.Namespace) -> list[str]:
    return compare_trackers(work, rounds=typed.rounds)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def newest(folder: Path) -> Path:
    return sorted((only_run(folder) / "checkpoints").glob("task-*"))[-1]


def command(folder: Path, words: Sequence[str] = COMMAND, *, by: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """The command as a process of its own, typed in `folder`; all share one cache of bases."""
    line = [sys.executable, *by, "-m", "ttt.cli.run", f"cache_dir={folder.parent / 'cache'}", *words]
    with (folder / "log").open("ab") as log:
        environment = os.environ | {"PYTHONSAFEPATH": "1"}
        return subprocess.Popen(line, cwd=folder, env=environment, stdout=log, stderr=log)


def results(folder: Path, words: Sequence[str] = COMMAND) -> str:
    """Run to the end; return the hash of results.json."""
    return "" if command(folder, words).wait() else digest(folder)


def digest(folder: Path) -> str:
    return hashlib.sha256((only_run(folder) / "results.json").read_bytes()).hexdigest()


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


TRIALS: dict[str, Callable[[Path, argparse.Namespace], list[str]]] = {
    "forty": forty, "steps": steps, "kills": kills, "signals": signals, "damage": damage, "fuzz": wrong,
    "kinds": kinds, "starts": starts, "two": two, "soak": long_stream, "trackers": trackers,
}  # fmt: skip
# Only by name: its runs take two minutes each.
APART = ("trackers",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", nargs="?", choices=TRIALS, help="one of them (all)")
    parser.add_argument("jobs", nargs="*", help="names of jobs, for steps (all)")
    parser.add_argument("--times", type=int, default=8, help="how many signals, commands or mutations")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one, for fuzz and kinds")
    parser.add_argument("--rounds", type=int, default=1, help="how often trackers are tried")
    parser.add_argument("--under", help="a folder for the runs, such as one of another file system")
    typed, failed = parser.parse_args(), False
    for name in [typed.trial] if typed.trial else [name for name in TRIALS if name not in APART]:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torture-", dir=typed.under) as work:
            complaints = [line for line in TRIALS[name](Path(work) / name, typed) if line]
        print(f"{name}: {'; '.join(complaints) or 'equal'} ({time.monotonic() - start:.0f} s)", flush=True)
        failed |= bool(complaints)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
