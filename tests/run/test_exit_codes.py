"""The exit codes of the tables in the documentation, each by a command in a process of its own.

0, 1, 2, 75, 76 and 130 come up in other tests: those of whole runs, sweeps, wrong words,
interruptions and divergence.
"""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest
from forked import Forked
from full_disk import run_on_a_full_disk
from harness import FAST, TINY, only_run, start

from ttt.run.exit_codes import SIGNALS, STOPPED, ExitCode

ROOT = Path(__file__).parents[2]
# A strategy of the user's own that goes wrong after the first task.
FAULTY = """
from pathlib import Path
from ttt.strategies.base import Strategy

class Faulty(Strategy):
    runs_on = "any"

    def __init__(self, *, name: str, reads: str | None) -> None:
        super().__init__(name=name)
        self._reads = reads

    def end_task(self, engine, task):
        Path(self._reads).read_text() if self._reads else [][0]
"""
YAML = "_target_: faulty.Faulty\nname: faulty\nreads: null\n"


def codes_of(page: Path) -> set[int]:
    """The exit codes in the table of a page, where `128 + n` stands for the signals of a run."""
    cells = re.findall(r"^\| ([\d, ]+|128 \+ n) \|", page.read_text(), flags=re.MULTILINE)
    signals = {128 + number for number in SIGNALS} if "128 + n" in cells else set()
    return signals | {int(code) for cell in cells if "+" not in cell for code in cell.split(",")}


@pytest.mark.parametrize("page", ["docs/howto/runs.md", "outputs/README.md"])
def test_the_tables_are_those_of_the_code(page):
    assert codes_of(ROOT / page) == {code.value for code in ExitCode} | {128 + number for number in SIGNALS}


def test_the_job_script_of_the_docs_starts_again_what_was_stopped():
    (line,) = [line for line in (ROOT / "docs/howto/devices.md").read_text().splitlines() if "scontrol requeue" in line]
    codes = {int(code) for code in re.findall(r"-eq (\d+)", line)}
    assert codes == {ExitCode.REQUEUE} <= set(STOPPED)


@pytest.fixture
def faulty(tmp_path):
    """Words for a run with a strategy of the user's own that goes wrong."""
    (tmp_path / "mine" / "strategy").mkdir(parents=True)
    (tmp_path / "mine" / "faulty.py").write_text(FAULTY)
    (tmp_path / "mine" / "strategy" / "faulty.yaml").write_text(YAML)
    return ["--config-dir", "mine", *TINY, "adapter=none", "strategy=faulty"]


def status(folder: Path) -> str:
    return str(json.loads((only_run(folder) / "status.json").read_text())["status"])


def test_an_error_inside_a_run_is_a_bug_with_a_traceback_in_its_log(faulty, tmp_path):
    process = start(faulty, tmp_path)
    _, err = process.communicate()
    assert process.returncode == ExitCode.BUG
    assert "Traceback" not in err
    assert "error.log" in err
    assert "IndexError" in (only_run(tmp_path) / "error.log").read_text()
    assert status(tmp_path) == "failed"


def test_data_that_are_gone_are_named(faulty, tmp_path):
    process = start([*faulty, "strategy.reads=gone.txt"], tmp_path)
    _, err = process.communicate()
    assert process.returncode == ExitCode.DATA
    assert "gone.txt" in err
    assert status(tmp_path) == "failed"


def test_a_full_disk_is_said_and_with_more_room_the_run_goes_on(tmp_path):
    process = Forked(run_on_a_full_disk, ["ttt-run", *TINY, *FAST], tmp_path)
    _, err = process.communicate()
    assert process.returncode == ExitCode.DISK
    assert str(only_run(tmp_path).relative_to(tmp_path)) in err.splitlines()[0]
    again = start([*TINY, *FAST], tmp_path)
    out, err = again.communicate()
    assert (again.returncode, err) == (ExitCode.DONE, "")
    assert "resuming after" in out


def test_a_second_signal_ends_a_process_with_its_number(tmp_path):
    # It comes to rest at reports only, and the first one is far away.
    process = start([*TINY, *FAST, "task.steps_per_task=9000", "trainer.report_every=9000"], tmp_path)
    while not list(tmp_path.glob("outputs/*/*/*/checkpoints/task-0000")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    # Soon, or the run may have saved and ended after the first; but where both wait at once, a busy
    # system may hand them over in either order.
    for number in (signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(0.2)
    process.communicate(timeout=60)
    assert process.returncode == ExitCode.TERMINATED
    assert status(tmp_path) == "requeue"
