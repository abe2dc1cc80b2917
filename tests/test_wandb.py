"""W&B end to end: the real client, in the run that a user types, against a stand-in for its server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from harness import FAST, TINY, only_run, run_apart, start
from wandb_server import Standin

from ttt.sinks.numbers import FAMILIES, axes, numbers, past
from ttt.sinks.wandb import WandbSink

TRACKED = tuple(o for o in TINY if not o.startswith("logger"))
ONLINE = (*TRACKED, *FAST, "logger=wandb", "logger.mode=online")
# Long enough to be killed inside a task.
LONG = ("trainer.report_every=1", "task.steps_per_task=60")
ROWS_OF_ONE_TASK = 61
# What differs between two executions of one step.
TIMES = ("axis/seconds", "train/tokens_per_second")
SECONDS_FOR_ALL_ELSE = 60


@contextlib.contextmanager
def login(url):
    """The environment of one who is logged in at `url`, and sends at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_BASE_URL", url)
        patch.setenv("WANDB_API_KEY", "x" * 40)
        patch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "0.1")
        yield


def client(*words, folder):
    """W&B's own command."""
    command = [sys.executable, "-m", "wandb", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def logged(row):
    """A row of history without what W&B adds."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


def untimed(row):
    return {name: value for name, value in logged(row).items() if name not in TIMES}


def journal(run):
    return [axes(event) | numbers(event) for event in past(run / "metrics.jsonl")]


def results(run):
    return json.loads((run / "results.json").read_text())


def check_complete(server, name, run):
    """Every number once and in order, the summary, R, and how it ended."""
    *rows, last = server.history(name)
    assert [row["_step"] for row in (*rows, last)] == list(range(len(rows) + 1))
    assert [untimed(row) for row in rows] == [untimed(row) for row in journal(run)]
    assert server.run(name)["exitcode"] == 0
    summary, files = server.run(name)["summary"], server.run(name)["files"]
    expected = {key: value for key, value in results(run)["metrics"].items() if value is not None}
    assert {key: summary[key] for key in expected} == expected
    for mode in results(run)["rows"][0]["scores"]:
        table = json.loads(files[last[f"R/{mode}/loss"]["path"]])
        scores = [row["scores"][mode]["loss"] for row in results(run)["rows"]]
        assert table["data"] == [[i, *row] for i, row in enumerate(scores)]
        assert table["columns"][0] == "after task"
        assert files[last[f"R/{mode}/loss_picture"]["path"]].startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    folder = tmp_path_factory.mktemp("online")
    with Standin() as server, login(server.url):
        outcome = run_apart(ONLINE, folder)
        assert outcome.code == 0, outcome.err
        yield server, only_run(folder), outcome


def test_an_online_run_says_who_it_is(online):
    server, run, outcome = online
    (name,) = server.runs
    sent = server.run(name)
    assert outcome.err == ""
    assert f"W&B: {server.url}/me/ttt/runs/{name}" in outcome.out
    assert run.name == f"seed0-{name}"
    assert sent["project"] == "ttt"
    assert sent["jobType"] == "train"
    assert sent["groupName"].startswith("split-sequence/recall/mlp_fast-naive-adamw/")
    assert sent["displayName"] == f"mlp_fast-naive-adamw/{run.name}"
    assert set(sent["tags"]) == {"split-sequence", "recall", "mlp_fast", "naive", "adamw"}
    config = {key: entry["value"] for key, entry in json.loads(sent["config"]).items()}
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert {key: config[key] for key in resolved} == resolved
    recorded = json.loads((run / "environment.json").read_text())
    for key in ("git", "code", "versions", "device"):
        assert config["environment"][key] == recorded[key]
    assert config["environment"]["data"]["source"] == recorded["data"]["source"]


def test_an_online_run_is_whole(online):
    server, run, _ = online
    (name,) = server.runs
    check_complete(server, name, run)
    # With one process, times are equal too.
    assert [logged(row) for row in server.history(name)][:-1] == journal(run)
    status = json.loads((run / "status.json").read_text())
    for cost in ("seconds", "training_tokens_per_second", "peak_memory_bytes"):
        assert server.run(name)["summary"][f"cost/{cost}"] == status[cost]


def test_every_number_has_an_axis(online):
    server, _, _ = online
    (name,) = server.runs
    config = json.loads(server.run(name)["config"])
    # W&B's short keys: 1 a name, 2 a pattern, 5 the number of its axis, counted from 1.
    metrics = config["_wandb"]["value"]["m"]
    axis = {metric["2"]: metrics[metric["5"] - 1]["1"] for metric in metrics if "2" in metric}
    assert axis == {f"{family}/*": name for family, name in FAMILIES.items()}
    for row in server.history(name):
        assert {"axis/step", "axis/tokens", "axis/task", "axis/seconds"} <= set(row)
        assert {key.split("/")[0] for key in logged(row)} <= {*FAMILIES, "axis"}


def wait_for(reached, *, process):
    for _ in range(12000):
        if reached():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def kill(process, *, with_client=False):
    """SIGKILL; W&B's own process is left to itself, or dies too, as when the machine goes down."""
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    process.send_signal(signal.SIGKILL)
    for child in found.stdout.split() if with_client else []:
        os.kill(int(child), signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def lines(folder):
    """Numbers of a run that are on the disk."""
    return sum(len(file.read_text().splitlines()) for file in folder.glob("outputs/*/*/*/metrics.jsonl"))


def kill_online(folder, server, *, at, with_client):
    """Stopped at `at` lines of the journal until the server has nearly all, then killed."""
    process = start([*ONLINE, *LONG], folder)
    wait_for(lambda: lines(folder) >= at, process=process)
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: any(len(run["lines"]) >= at - 10 for run in server.runs.values()), process=process)
    kill(process, with_client=with_client)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Killed inside the second task and inside the third, each time online."""
    folder = tmp_path_factory.mktemp("resumed")
    with Standin() as server, login(server.url):
        kill_online(folder, server, at=ROWS_OF_ONE_TASK + 20, with_client=False)
        (name,) = server.runs
        ahead = len(server.history(name))
        kill_online(folder, server, at=2 * ROWS_OF_ONE_TASK + 20, with_client=True)
        # The last seconds never arrived, say: the server has less than the checkpoint. First it reads what lies there.
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
    # It was ahead of the checkpoint after the first task, so steps were done again.
    assert ahead > ROWS_OF_ONE_TASK + 1
    check_complete(server, name, run)
    assert len(journal(run)) == 3 * ROWS_OF_ONE_TASK + 1
    # After each kill it went on behind what was there, and sent nothing again.
    assert server.run(name)["again"] == 0
    assert len({given["name"] for given in server.run(name)["starts"]}) == 1


def test_the_report_is_an_artifact(resumed):
    server, run, _ = resumed
    (report,) = [artifact for artifact in server.artifacts if artifact["artifactTypeName"] == "report"]
    assert report["committed"]
    assert report["files"]["report.html"] == (run / "report.html").read_bytes()


def test_an_offline_run_killed_resumed_and_synced_equals_the_online_run(resumed, tmp_path):
    online, _, _ = resumed
    (name,) = online.runs
    offline = [o for o in (*ONLINE, *LONG) if o != "logger.mode=online"] + ["logger.mode=offline"]
    process = start(offline, tmp_path)
    wait_for(lambda: lines(tmp_path) > ROWS_OF_ONE_TASK + 10, process=process)
    kill(process)
    run = only_run(tmp_path)
    assert len(list(run.glob("wandb/offline-run-*"))) == 1
    outcome = run_apart(offline, tmp_path)
    assert outcome.code == 0, outcome.err
    # One folder, and it is the one named.
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


def test_a_sweep_is_six_runs_in_two_groups(tmp_path):
    sweep = [*(o for o in ONLINE if o not in FAST), "adapter=none,delta_fast", "seed=0,1,2"]
    with Standin() as server, login(server.url):
        outcome = run_apart(["-m", *sweep, "sweep.jobs=2"], tmp_path)
        assert outcome.code == 0, outcome.err
        runs = {path.parent.name.split("-")[-1]: path.parent for path in tmp_path.glob("outputs/*/*/*/status.json")}
        assert set(runs) == set(server.runs)
        assert len(runs) == 6
        groups = [server.run(name)["groupName"] for name in runs]
        assert sorted(groups.count(group) for group in set(groups)) == [3, 3]
        for name, run in runs.items():
            check_complete(server, name, run)


class SweepServer(Standin):
    """Also keeps a sweep, and tells an agent to start its first combination."""

    def answer(self, operation, given):
        project = {"id": "p", "name": "ttt", "entity": {"id": "e", "name": "me"}}
        if operation == "UpsertSweep":
            self.sweep = yaml.safe_load(given["config"])
            return {"upsertSweep": {"sweep": {"name": "s1", "project": project}, "configValidationWarnings": []}}
        if operation == "SweepWithRuns":
            content = {"id": "s1", "name": "s1", "config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}
            return {"project": {"sweep": content}}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": "a1"}}}
        if operation == "Heartbeat":
            values = {name: {"value": choice["values"][0]} for name, choice in self.sweep["parameters"].items()}
            run = {"type": "run", "run_id": "given-by-server", "program": self.sweep["program"], "args": values}
            return {"agentHeartbeat": {"agent": {"id": "a1"}, "commands": json.dumps([] if self.runs else [run])}}
        return super().answer(operation, given)


def test_the_sweep_file_drives_a_run(tmp_path):
    """`wandb sweep` and `wandb agent`, with the documented file; only its runs are made small."""
    sweep = yaml.safe_load((Path(__file__).parents[1] / "docs" / "wandb-sweep.yaml").read_text())
    small = [o for o in TRACKED if not o.startswith("task=")]
    sweep["command"][-1:] = [*small, sweep["command"][-1]]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with SweepServer() as server, login(server.url), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        said = client("sweep", "sweep.yaml", folder=tmp_path)
        assert "wandb agent me/ttt/s1" in said
        said = client("agent", "--count", "1", "me/ttt/s1", folder=tmp_path)
        assert server.runs, said
        (name,) = server.runs
        # W&B's own id, but our group and numbers.
        assert name == "given-by-server"
        assert server.run(name)["sweep"] == "s1"
        run = next(tmp_path.glob("outputs/wandb-sweep/*/*/*/status.json")).parent
        check_complete(server, name, run)
        resolved = yaml.safe_load((run / "config.yaml").read_text())
        assert resolved["adapter"]["name"] == "none"
        assert resolved["optimizer"]["lr"] == 1e-4
        assert server.run(name)["displayName"] == f"none-naive-adamw/{run.name}"


# A refused, a hanging and a broken server; and one that hangs once the run has begun.
TROUBLE = ("refuse", "hang", "broken", "late")


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    """All at once: they mostly wait."""
    with contextlib.ExitStack() as stack:
        found, processes = {}, {}
        for kind in TROUBLE:
            folder = tmp_path_factory.mktemp(kind)
            server = stack.enter_context(Standin(kind if kind in ("hang", "broken") else "ok"))
            with login("http://127.0.0.1:9" if kind == "refuse" else server.url):
                processes[kind] = start([*ONLINE, *(LONG if kind == "late" else ())], folder)
            found[kind] = folder
        # The last server is that of `late`.
        wait_for(partial(bool, server.runs), process=processes["late"])
        server.mode = "hang"
        ended = {}
        while len(ended) < len(TROUBLE):
            ended |= {kind: time.time() for kind in TROUBLE if kind not in ended and processes[kind].poll() is not None}
            time.sleep(0.1)
        yield {kind: (folder, ended[kind], *end(processes[kind])) for kind, folder in found.items()}


def end(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize("kind", TROUBLE)
def test_a_server_in_trouble_costs_one_warning_and_bounded_time(trouble, online, kind):
    folder, ended, code, out, err = trouble[kind]
    assert code == 0
    (line,) = err.splitlines()
    assert line.startswith("logger=wandb goes on offline: ")
    run = only_run(folder)
    if kind != "late":
        assert (run / "results.json").read_bytes() == (online[1] / "results.json").read_bytes()
    began, measured = ((run / file).stat().st_mtime for file in ("environment.json", "status.json"))
    limits = WandbSink.INIT_SECONDS, WandbSink.PROBE_SECONDS + WandbSink.FINISH_SECONDS
    assert max(limits) <= 20
    assert measured - began < limits[0] + SECONDS_FOR_ALL_ELSE
    assert ended - measured < limits[1] + SECONDS_FOR_ALL_ELSE
    # What was measured is all there, tables included.
    (kept,) = run.glob("wandb/*run-*/run-*.wandb")
    assert str(kept.parent.relative_to(folder)) in out
    with Standin() as server, login(server.url):
        client("sync", str(kept.parent), folder=folder)
        (name,) = server.runs
        check_complete(server, name, run)
