"""The process of a command: how its threads wait, and how it ends."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys

import pytest

from ttt.cli import worker
from ttt.cli.commands import COMMANDS

SCRIPT = """
import atexit, sys, threading, time
from ttt.cli.process import in_own_process

class Witness:
    def __del__(self):
        print("taken down")

witness = Witness()
atexit.register(print, "asked")

@in_own_process
def main():
    {body}

main()
"""


def typed(path, body, *, environment=None):
    """Run a program of this name whose command does `body`; return its exit code and its lines."""
    path.write_text(SCRIPT.format(body=body))
    done = subprocess.run([sys.executable, str(path)], env=environment, capture_output=True, text=True, check=False)
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


def test_a_program_that_runs_a_command_by_its_file_goes_on(tmp_path):
    """As coverage and profilers do."""
    command, program = tmp_path / "ttt-run", tmp_path / "mine.py"
    command.write_text(SCRIPT.format(body="pass"))
    program.write_text(f"import runpy; runpy.run_path({str(command)!r}, run_name='__main__'); print('went on')")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True)
    assert "went on" in done.stdout


def test_what_lies_in_buffers_is_written(tmp_path):
    kept = tmp_path / "kept.txt"
    body = f"global file; file = open({str(kept)!r}, 'w'); file.write('a line')"
    assert typed(tmp_path / "ttt-run", body)[:2] == (0, ["asked"])
    assert kept.read_text() == "a line"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_shell_may_close_the_output(closed):
    code = f"{sys.executable} -m ttt.cli.run --version {closed}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("set_before", "expected"),
    [({}, "PASSIVE 1000"), ({"GOMP_SPINCOUNT": "7"}, "PASSIVE 7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None")],
)
def test_threads_wait_as_the_user_says(tmp_path, set_before, expected):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names} | set_before
    body = f"import os; print(*(os.environ.get(name) for name in {names}))"
    assert typed(tmp_path / "ttt-run", body, environment=environment)[1][0] == expected
    # A program that calls a command keeps its own ways.
    untouched = " ".join(str(set_before.get(name)) for name in names)
    assert typed(tmp_path / "mine.py", body, environment=environment)[1][0] == untouched


def test_every_command_prepares_its_process():
    commands = [importlib.import_module(f"ttt.cli.{name.removeprefix('ttt-')}") for name in COMMANDS]
    assert all(hasattr(command.main, "__wrapped__") for command in [*commands, worker])


KEPT = """
import ctypes, os, sys
from ttt.cli.process import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [library.malloc(20 * 2**20) for _ in range(5)]
for block in blocks:
    ctypes.memset(block, 1, 20 * 2**20)
for block in blocks:
    library.free(block)
print(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_stays_unless_the_user_says_otherwise():
    """Of 100 MB in blocks that are filled and freed: megabytes that are still resident."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def resident(word, **variables):
        command = [sys.executable, "-c", KEPT, word]
        return int(subprocess.check_output(command, env=plain | variables))

    assert resident("keep") > 100
    assert resident("leave") < 100
    assert resident("keep", MALLOC_TRIM_THRESHOLD_="131072") < 100
