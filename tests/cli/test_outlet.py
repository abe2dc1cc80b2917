"""A command whose reader goes away, such as `head`, ends as it would have."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from harness import SMALL

from ttt.cli.outlet import Outlet


def with_no_reader(command: list[str], folder, *, both: bool = False) -> tuple[int, str]:
    """The exit code and stderr of a command whose stdout (and stderr: `both`) nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    stderr = writing if both else subprocess.PIPE
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, stdout=writing, stderr=stderr, check=False)
    os.close(writing)
    return done.returncode, "" if both else done.stderr.decode()


@pytest.mark.parametrize(
    "command",
    [
        ["ttt"],
        ["ttt.cli.run", "--hydra-help"],
        ["ttt.cli.run", "--cfg", "job"],
        ["ttt.cli.run", "--completion", "bash"],
        ["ttt.cli.compare", "--help"],
        ["ttt.cli.stream", "--help"],
    ],
    ids=lambda words: " ".join(words),
)
def test_what_is_printed_ends_quietly(command, tmp_path):
    assert with_no_reader(command, tmp_path) == (0, "")


@pytest.mark.parametrize("both", [False, True])
def test_a_run_goes_on_to_its_end(both, tmp_path):
    command = ["ttt.cli.run", *SMALL, "base=none", "adapter=none"]
    assert with_no_reader(command, tmp_path, both=both) == (0, "")
    assert len(list(tmp_path.glob("outputs/*/*/*/results.json"))) == 1


@pytest.mark.parametrize("stops", [False, True])
def test_what_is_written_after_the_end_goes_nowhere(stops):
    reading, writing = os.pipe()
    outlet = io.TextIOWrapper(io.BufferedWriter(Outlet(writing, stops=stops)), line_buffering=True)
    print("heard", file=outlet)
    assert os.read(reading, 100) == b"heard\n"
    os.close(reading)
    if stops:
        with pytest.raises(BrokenPipeError):
            print("unheard", file=outlet)
    print("unheard", file=outlet)
    outlet.close()
    os.close(writing)
