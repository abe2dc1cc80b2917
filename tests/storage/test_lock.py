"""One folder, one owner: whoever dies gives it back, whoever lives keeps it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from ttt.storage import lock as lock_module
from ttt.storage.lock import SILENT, BusyError, Lock
from ttt.storage.run_folder import RunFolder

TAKE = """
import sys, time
from pathlib import Path
from ttt.storage.lock import BusyError, Lock
lock = Lock(Path(sys.argv[1]))
try:
    lock.take()
except BusyError:
    print("busy", flush=True)
    raise SystemExit
print("owner", flush=True)
sys.stdin.readline()
lock.release()
"""


def process_that_takes(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TAKE, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_many_that_start_together_one_owns(tmp_path):
    path = tmp_path / "lock"
    processes = [process_that_takes(path) for _ in range(6)]
    words = list(map(said, processes))
    for process, word in zip(processes, words, strict=True):
        # Only the owner waits to be told; the others have ended.
        process.communicate("\n" if word == "owner" else None)
    assert sorted(words) == ["busy"] * 5 + ["owner"]
    assert not path.exists()


def test_threads_that_take_and_release_never_share(tmp_path):
    """The window between opening a file and locking it, many times."""
    path, inside, most = tmp_path / "lock", [], []

    def use(_: int) -> None:
        lock = Lock(path)
        try:
            lock.take()
        except BusyError:
            return
        inside.append(1)
        most.append(len(inside))
        inside.pop()
        lock.release()

    with ThreadPool(8) as pool:
        pool.map(use, range(400))
    assert set(most) == {1}


def test_a_killed_owner_is_followed_at_once(tmp_path):
    path = tmp_path / "lock"
    process = process_that_takes(path)
    assert said(process) == "owner"
    assert Lock(path).is_taken()
    with pytest.raises(BusyError, match=f"pid {process.pid}"):
        Lock(path).take()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Lock(path).is_taken()
    lock = Lock(path)
    lock.take()
    assert json.loads(path.read_text())["pid"] == os.getpid()
    lock.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}', '{"pid": 1}', '{"pid": OURS}'])
def test_what_nobody_holds_is_free_whatever_it_says(tmp_path, content):
    """Empty and damaged files, pid 1 of a container, a number that another process has now."""
    path = tmp_path / "lock"
    path.write_text(content.replace("OURS", str(os.getpid())))
    old = time.time() - 2 * SILENT
    os.utime(path, (old, old))
    assert not Lock(path).is_taken()
    lock = Lock(path)
    lock.take()
    lock.release()


def test_an_owner_on_another_host_counts_while_its_heart_beats(tmp_path):
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    assert Lock(path).is_taken()
    with pytest.raises(BusyError, match="elsewhere, pid 7"):
        Lock(path).take()
    old = time.time() - SILENT - 1
    os.utime(path, (old, old))
    lock = Lock(path)
    lock.take()
    lock.release()


def test_its_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "HEARTBEAT", 0.01)
    path = tmp_path / "lock"
    lock = Lock(path)
    lock.take()
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.stat().st_mtime > 1
    lock.release()
    assert threading.active_count() < 50


def test_a_link_in_place_of_a_file_is_refused_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name in ("metrics.jsonl", "lock", "checkpoints/task-0001"):
        folder = RunFolder(tmp_path / name.replace("/", "-"))
        folder.checkpoints.mkdir(parents=True)
        (folder.path / name).symlink_to(victim)
        with pytest.raises(ValueError, match="is a link"):
            folder.open()
    assert victim.read_text() == "untouched"


def test_a_child_of_the_owner_does_not_keep_the_folder(tmp_path):
    path = tmp_path / "lock"
    lock = Lock(path)
    lock.take()
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0.1,))
    child.start()
    lock.release()
    assert not Lock(path).is_taken()
    child.join()
