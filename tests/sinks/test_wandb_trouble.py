"""W&B when things go wrong: runs that are killed, and servers that refuse, hang or break."""

from __future__ import annotations

import contextlib
import json
import signal
import time

import pytest
from harness import FAST, only_run, run_apart, run_here, start
from wandb_client import (
    LONG,
    ONLINE,
    ROWS_OF_ONE_TASK,
    TRACKED,
    check_complete,
    client,
    journal,
    kill,
    lines,
    login,
    start_slowly,
    untimed,
    wait_for,
)
from wandb_server import Standin

from ttt.sinks import wandb_run as sink

# These share the runs of module fixtures: one process makes them once.
pytestmark = pytest.mark.xdist_group("wandb_trouble")

SECONDS_FOR_ALL_ELSE = 60


def pause(process, folder, server, *, at):
    """Stop a run once its journal has `at` lines and the server nearly as many."""
    wait_for(lambda: lines(folder) >= at, process=process)
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: any(len(run["lines"]) >= at - 10 for run in server.runs.values()), process=process)


def kill_online(folder, server, *, at, with_client):
    process = start_slowly([*ONLINE, *LONG], folder)
    pause(process, folder, server, at=at)
    kill(process, with_client=with_client)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run that is killed inside its second task and inside its third, each time online."""
    folder = tmp_path_factory.mktemp("resumed")
    with Standin() as server, login(server.url):
        kill_online(folder, server, at=ROWS_OF_ONE_TASK + 20, with_client=False)
        (name,) = server.runs
        ahead = len(server.history(name))
        kill_online(folder, server, at=2 * ROWS_OF_ONE_TASK + 20, with_client=True)
        # Let the last seconds be lost, so that the server has less than the checkpoint. Requests
        # may still be on their way.
        time.sleep(2)
        for number in [n for n in server.run(name)["lines"] if n >= 100]:
            del server.run(name)["lines"][number]
        server.run(name)["summary"]["_step"] = 99
        run = only_run(folder)
        assert json.loads((run / "status.json").read_text())["status"] == "running"
        (run / "report.html").write_text("<title>a report</title>")
        outcome = run_apart([*ONLINE, *LONG], folder)
        assert outcome.code == 0, outcome.err
        yield server, run, ahead


def test_a_run_killed_twice_is_one_run_with_every_point_once(resumed):
    server, run, ahead = resumed
    (name,) = server.runs
    # The server was ahead of the checkpoint after the first task, so steps were done again.
    assert ahead > ROWS_OF_ONE_TASK + 1
    check_complete(server, name, run)
    assert len(journal(run)) == 3 * ROWS_OF_ONE_TASK + 1
    # After each kill the run went on after the last row there, and sent no row again.
    assert server.run(name)["again"] == 0
    assert len({start["name"] for start in server.run(name)["starts"]}) == 1


def test_the_report_is_an_artifact(resumed):
    server, run, _ = resumed
    (report,) = [artifact for artifact in server.artifacts if artifact["artifactTypeName"] == "report"]
    assert report["committed"]
    assert report["files"]["report.html"] == (run / "report.html").read_bytes()


def test_an_offline_run_killed_resumed_and_synced_equals_the_online_run(resumed, tmp_path):
    online, _, _ = resumed
    (name,) = online.runs
    offline = [o for o in (*ONLINE, *LONG) if o != "logger.mode=online"] + ["logger.mode=offline"]
    process = start_slowly(offline, tmp_path)
    wait_for(lambda: lines(tmp_path) > ROWS_OF_ONE_TASK + 10, process=process)
    kill(process)
    run = only_run(tmp_path)
    assert len(list(run.glob("wandb/offline-run-*"))) == 1
    outcome = run_apart(offline, tmp_path)
    assert outcome.code == 0, outcome.err
    # The folder of the killed process is gone; the user is told the other.
    (folder,) = run.glob("wandb/offline-run-*")
    assert folder.name in outcome.out
    with Standin() as server, login(server.url):
        client("sync", str(folder), folder=tmp_path)
        check_complete(server, name, run)
        *rows, last = server.history(name)
        *same, same_last = online.history(name)
        assert [untimed(row) for row in rows] == [untimed(row) for row in same]
        assert last.keys() == same_last.keys()
        for key in ("groupName", "displayName", "tags", "jobType", "project"):
            assert server.run(name)[key] == online.run(name)[key]


# No server, one that hangs, one that is broken, and one that hangs once the run has begun.
TROUBLE = ("refuse", "hang", "broken", "late")


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    """Runs against all of them at once, because they mostly wait."""
    with contextlib.ExitStack() as stack:
        folders, processes = {}, {}
        for kind in TROUBLE:
            folder = tmp_path_factory.mktemp(kind)
            server = stack.enter_context(Standin(kind if kind in ("hang", "broken") else "ok"))
            with login("http://127.0.0.1:9" if kind == "refuse" else server.url):
                late = kind == "late"
                processes[kind] = start_slowly([*ONLINE, *LONG], folder) if late else start(ONLINE, folder)
            folders[kind] = folder
        # The last server is that of `late`.
        pause(processes["late"], folder, server, at=100)
        server.mode = "hang"
        processes["late"].send_signal(signal.SIGCONT)
        ended = {}
        while len(ended) < len(TROUBLE):
            ended |= {kind: time.time() for kind in TROUBLE if kind not in ended and processes[kind].poll() is not None}
            time.sleep(0.1)
        yield {kind: (folder, ended[kind], *end(processes[kind])) for kind, folder in folders.items()}


def end(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same run without a tracker, as run folder."""
    folder = tmp_path_factory.mktemp("plain")
    assert run_here([*TRACKED, *FAST, "logger=none"], folder).code == 0
    return only_run(folder)


@pytest.mark.parametrize("kind", TROUBLE)
def test_a_server_in_trouble_costs_one_warning_and_bounded_time(trouble, plain, kind):
    folder, ended, code, out, err = trouble[kind]
    assert code == 0
    run = only_run(folder)
    if kind != "late":
        assert (run / "results.json").read_bytes() == (plain / "results.json").read_bytes()
    began, measured = ((run / file).stat().st_mtime for file in ("environment.json", "status.json"))
    limits = sink.INIT_SECONDS, sink.PROBE_SECONDS + sink.FINISH_SECONDS
    assert max(limits) <= 20
    assert measured - began < limits[0] + SECONDS_FOR_ALL_ELSE
    assert ended - measured < limits[1] + SECONDS_FOR_ALL_ELSE
    # The last line says how to upload, and then every number is there, tables included. A busy
    # machine may first say that W&B goes on offline, and then that not all was written in time.
    *earlier, line = err.splitlines()
    assert all("W&B goes on offline: " in each for each in earlier[:1])
    assert len(earlier) <= 1
    with Standin() as server, login(server.url):
        if "W&B goes on offline: " in line:
            (offline,) = run.glob("wandb/*run-*/run-*.wandb")
            assert str(offline.parent.relative_to(folder)) in out
            client("sync", str(offline.parent), folder=folder)
        else:
            assert f"ttt-run sync {run.relative_to(folder)}" in line
            assert run_apart(["sync", str(run), "--logger", "wandb"], folder).code == 0
        (name,) = server.runs
        check_complete(server, name, run)
