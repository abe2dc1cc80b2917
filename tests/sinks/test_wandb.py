"""W&B end to end: the command and the real client, against a stand-in for the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_runs import make_run
from harness import FAST, SMALL, only_run, run_apart, run_here
from wandb_client import ONLINE, TRACKED, check_complete, client, journal, logged, login
from wandb_server import Standin

from ttt.sinks.numbers import FAMILIES
from ttt.storage.checkpoint import in_order

# These share the runs of module fixtures: one process makes them once.
pytestmark = pytest.mark.xdist_group("wandb")


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    folder = tmp_path_factory.mktemp("online")
    with Standin() as server, login(server.url):
        outcome = run_apart([*ONLINE, "report=true", "logger.weights=[base,final]"], folder)
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
    # Nothing was done twice, so times are equal too.
    assert [logged(row) for row in server.history(name)][:-1] == journal(run)
    status = json.loads((run / "status.json").read_text())
    for cost in ("seconds", "training_tokens_per_second", "peak_memory_bytes"):
        assert server.run(name)["summary"][f"cost/{cost}"] == status[cost]


def test_its_page_is_sent_with_it(online):
    server, run, _ = online
    (page,) = (artifact for artifact in server.artifacts if artifact["artifactTypeName"] == "report")
    assert page["committed"]
    assert page["files"]["report.html"] == (run / "report.html").read_bytes()


def test_weights_are_sent_where_they_are_wanted_and_can_be_a_base(online, tmp_path):
    server, run, _ = online
    models = [artifact for artifact in server.artifacts if artifact["artifactTypeName"] == "model"]
    for artifact in models:
        folder = tmp_path / artifact["artifactCollectionName"]
        folder.mkdir()
        for file in artifact["files"].keys() - {"wandb_manifest.json"}:
            (folder / file).write_bytes(artifact["files"][file])
    (base,), (final,) = tmp_path.glob("base-*"), tmp_path.glob("final-*")
    newest = in_order(run / "checkpoints")[-1]
    assert {x.name: x.read_bytes() for x in final.iterdir()} == {x.name: x.read_bytes() for x in newest.iterdir()}
    for folder in (base, final):
        outcome = run_here([*SMALL, *FAST, "base=checkpoint", f"base.path={folder}"], tmp_path)
        assert outcome.code == 0, outcome.err


def test_a_comparison_is_a_run_of_its_own_kind(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for seed in range(2):
        for rate in ("1e-4", "1e-3"):
            make_run(tmp_path, seed=seed, overrides=(f"optimizer.lr={rate}",), journal=False)
    with Standin() as server, login(server.url):
        command = [sys.executable, "-m", "ttt.cli.compare", str(tmp_path), "--wandb", "studies"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stderr
        (name,) = server.runs
        sent = server.run(name)
        assert (sent["project"], sent["jobType"]) == ("studies", "report")
        (row,) = server.history(name)
        assert "best" in json.loads(sent["files"][row["comparison/table"]["path"]])["columns"]
        assert sent["files"][row["comparison/frontier"]["path"]].startswith(b"\x89PNG")
        (page,) = (artifact for artifact in server.artifacts if artifact["artifactTypeName"] == "report")
        assert b"<!doctype html>" in page["files"]["report.html"].lower()
        assert sent["exitcode"] == 0


def test_every_number_has_an_axis(online):
    server, _, _ = online
    (name,) = server.runs
    config = json.loads(server.run(name)["config"])
    # W&B shortens its keys: 1 is a name, 2 a pattern, 5 the number of its axis, counted from 1.
    metrics = config["_wandb"]["value"]["m"]
    axis = {metric["2"]: metrics[metric["5"] - 1]["1"] for metric in metrics if "2" in metric}
    assert axis == {f"{family}/*": name for family, name in FAMILIES.items()}
    for row in server.history(name):
        assert {"axis/step", "axis/tokens", "axis/task", "axis/seconds"} <= set(row)
        assert {key.split("/")[0] for key in logged(row)} <= {*FAMILIES, "axis"}


def test_a_sweep_is_one_group_per_method(tmp_path):
    sweep = [*(o for o in ONLINE if o not in FAST), "adapter=none,delta_fast", "seed=0,1"]
    with Standin() as server, login(server.url):
        outcome = run_apart(["-m", *sweep, "sweep.jobs=2"], tmp_path)
        assert outcome.code == 0, outcome.err
        runs = {path.parent.name.split("-")[-1]: path.parent for path in tmp_path.glob("outputs/*/*/*/status.json")}
        assert set(runs) == set(server.runs)
        assert len(runs) == 4
        groups = [server.run(name)["groupName"] for name in runs]
        assert sorted(groups.count(group) for group in set(groups)) == [2, 2]
        for name, run in runs.items():
            check_complete(server, name, run)


class SweepServer(Standin):
    """A server that also has a sweep, and lets an agent start its first combination once."""

    begun = False

    def answer(self, operation, variables):
        project = {"id": "p", "name": "ttt", "entity": {"id": "e", "name": "me"}}
        if operation == "UpsertSweep":
            self.sweep = yaml.safe_load(variables["config"])
            return {"upsertSweep": {"sweep": {"name": "s1", "project": project}, "configValidationWarnings": []}}
        if operation == "SweepWithRuns":
            content = {"id": "s1", "name": "s1", "config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}
            return {"project": {"sweep": content}}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": "a1"}}}
        if operation == "Heartbeat":
            values = {name: {"value": choice["values"][0]} for name, choice in self.sweep["parameters"].items()}
            run = {"type": "run", "run_id": "given-by-server", "program": self.sweep["program"], "args": values}
            commands, self.begun = [] if self.begun else [run], True
            return {"agentHeartbeat": {"agent": {"id": "a1"}, "commands": json.dumps(commands)}}
        return super().answer(operation, variables)


def test_the_sweep_file_drives_a_run(tmp_path):
    """The documented file works with `wandb sweep` and `wandb agent`; its runs are made small."""
    sweep = yaml.safe_load((Path(__file__).parents[2] / "docs" / "wandb-sweep.yaml").read_text())
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
        # The id is W&B's; the group and the numbers are ours.
        assert name == "given-by-server"
        assert server.run(name)["sweep"] == "s1"
        run = next(tmp_path.glob("outputs/wandb-sweep/*/*/*/status.json")).parent
        check_complete(server, name, run)
        resolved = yaml.safe_load((run / "config.yaml").read_text())
        assert resolved["adapter"]["name"] == "none"
        assert resolved["optimizer"]["lr"] == 1e-4
        assert server.run(name)["displayName"] == f"none-naive-adamw/{run.name}"
