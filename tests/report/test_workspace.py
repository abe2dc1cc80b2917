"""The workspace that a pushed comparison saves in W&B, by the client's models and a stand-in server."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from fake_runs import make_run
from wandb_client import login
from wandb_server import Standin

from ttt.report.workspace import VIEW, save_workspace, workspace
from ttt.sinks.numbers import FAMILIES

# The client's models warn of pydantic's old style.
OLD_MODELS = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")


class Views(Standin):
    """A server that keeps views."""

    def __init__(self) -> None:
        super().__init__()
        self.views: dict[str, dict] = {}

    def answer(self, operation, variables):
        if operation == "View":
            name = variables["viewName"]
            nodes = [{"node": self.views[name]}] if name in self.views else []
            return {"project": {"allViews": {"edges": nodes}}}
        if operation == "UpsertView2":
            name = variables["name"]
            self.views[name] = {"id": "1", "displayName": variables["displayName"], "spec": variables["spec"]}
            return {"upsertView": {"view": {"id": "1", "name": name}, "inserted": True}}
        return super().answer(operation, variables)


def workspace_spec():
    view = workspace("me", "ttt", headline="fast/loss", pictures=["comparison/frontier"])._to_model()
    assert view.name == f"nw-{VIEW}-v"
    return view.spec.model_dump_json(by_alias=True, exclude_none=True)


def sections(spec):
    """Name -> panels of each section of a view, as the server gets it."""
    bank = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in bank}


@OLD_MODELS
def test_the_workspace_is_built_without_a_network(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)
    panels = sections(json.loads(workspace_spec()))
    assert list(panels) == ["The comparison", "Levels", "Change", "Training"]
    assert panels["The comparison"][0]["mediaKeys"] == ["comparison/frontier"]
    levels = panels["Levels"][0]
    assert levels["metrics"] == [f"eval/{mode}/loss/seen" for mode in ("slow", "fast", "carried")]
    # Every line stands over the axis that its family has in the sink.
    for config in [*panels["Levels"], *panels["Training"]]:
        assert {FAMILIES[metric.split("/")[0]] for metric in config["metrics"]} == {config["xAxis"]}
    assert len(panels["Change"]) == 3


def filed(server, *, offline=False):
    """What a pushed run says of itself."""
    return SimpleNamespace(
        url=f"{server.url}/me/studies/runs/r1",
        entity="me",
        project="studies",
        settings=SimpleNamespace(_offline=offline),
    )


def save(run):
    return save_workspace(run, headline="fast/loss", pictures=["comparison/frontier"])


def test_a_push_saves_the_workspace(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    make_run(tmp_path, journal=False)
    with Views() as server, login(server.url):
        command = [sys.executable, "-m", "ttt.cli.compare", str(tmp_path), "--wandb", "studies"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert f"workspace: {server.url}/me/studies?nw={VIEW}" in done.stderr
        ((name, view),) = server.views.items()
        assert name == f"nw-{VIEW}-v"
        pictures = sections(json.loads(view["spec"]))["The comparison"][0]["mediaKeys"]
        assert pictures
        assert all(picture.startswith("comparison/") for picture in pictures)


@OLD_MODELS
def test_what_somebody_arranged_stays():
    with Views() as server, login(server.url):
        arranged = {"id": "1", "displayName": "mine", "spec": workspace_spec()}
        server.views[f"nw-{VIEW}-v"] = arranged
        assert save(filed(server)) == f"{server.url}/me/studies?nw={VIEW}"
        assert server.views == {f"nw-{VIEW}-v": arranged}


@OLD_MODELS
def test_a_server_without_views_is_one_warning(caplog):
    with Standin() as server, login(server.url):
        assert save(filed(server)) is None
    assert "no workspace was saved" in caplog.text


def test_offline_nothing_is_asked():
    with Views() as server, login(server.url):
        assert save(filed(server, offline=True)) is None
        assert server.views == {}
