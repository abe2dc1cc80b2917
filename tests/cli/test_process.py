"""The process of a command: how its threads wait, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys, threading, time
from ttt.cli.commands import ends_at_once

class Witness:
    def __del__(self):
        print("taken down")

witness = Witness()
atexit.register(print, "asked")

@ends_at_once
def main():
    {body}

main()
"""


def typed(path, body):
    """Run a program of this name whose command does `body`; return its exit code and its lines."""
    path.write_text(SCRIPT.format(body=body))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split("\n")[:-1], done.stderr


@pytest.mark.parametrize(("body", "code"), [("sys.exit(3)", 3), ("sys.exit(None)", 0), ("pass", 0)])
def test_a_command_ends_with_its_code_once_all_that_asked_was_called(tmp_path, body, code):
    assert typed(tmp_path / "ttt-run", body) == (code, ["asked"], "")


def test_a_program_that_calls_a_command_ends_as_it_would(tmp_path):
    assert typed(tmp_path / "mine.py", "sys.exit(3)") == (3, ["asked", "taken down"], "")


def test_a_command_waits_for_its_threads(tmp_path):
    body = "threading.Thread(target=lambda: (time.sleep(0.3), print('done'))).start()"
    assert typed(tmp_path / "ttt-run", body)[:2] == (0, ["done", "asked", "taken down"])


def test_words_and_errors_end_a_command_as_python_does(tmp_path):
    code, lines, error = typed(tmp_path / "ttt-run", "sys.exit('wrong')")
    assert (code, lines, error) == (1, ["asked", "taken down"], "wrong\n")
    code, lines, error = typed(tmp_path / "ttt-run", "1 / 0")
    assert (code, lines) == (1, ["asked", "taken down"])
    assert error.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("set_before", "expected"),
    [({}, "PASSIVE 1000"), ({"GOMP_SPINCOUNT": "7"}, "PASSIVE 7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None")],
)
def test_threads_wait_as_the_user_says(set_before, expected):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names} | set_before
    code = f"import os, ttt.cli; print(*(os.environ.get(name) for name in {names}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == expected + "\n"
