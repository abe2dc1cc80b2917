"""What a run is compared with: its reference runs, and values that somebody published."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from assembling import assembled
from commands import assert_refused
from forked import Forked
from harness import only_run, run_here
from vectors import VECTORS

from ttt.cli import worker
from ttt.cli.runs import one as one_run
from ttt.cli.runs import references as cli_references
from ttt.cli.runs import torchrun
from ttt.compare.published import by_published
from ttt.compare.runs import read_run
from ttt.report import one
from ttt.results.saved import from_json
from ttt.run import references
from ttt.run.references import STRATEGIES
from ttt.storage.lock import Lock
from ttt.storage.whole import SEAL

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("references")

JOB = (*VECTORS, "optimizer.lr=0.1")


class Processes:
    """Stands in for `subprocess`: what would start cold is forked from the warm server."""

    DEVNULL, STDOUT = -3, -2

    @staticmethod
    def run(command, *, stdin, stdout, stderr, check):
        interpreter, flag, module, order = command
        assert (interpreter, flag, module) == (sys.executable, "-m", "ttt.cli.worker")
        out, err = Forked(worker.main, ["worker", order], Path.cwd()).communicate()
        stdout.write(out + err)


@pytest.fixture(scope="module", autouse=True)
def _warm():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_references, "subprocess", Processes)
        yield


def folders(root):
    return {path.parent.parent.name: path.parent for path in root.glob("outputs/*/*/*/results.json")}


def read(folder):
    return json.loads((folder / "results.json").read_text())


def with_references(content, references):
    """Results with other references. Without its seal a file is that of an earlier version."""
    return json.dumps({name: x for name, x in content.items() if name != SEAL} | {"references": references})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run, then the same with its references."""
    root = tmp_path_factory.mktemp("references")
    assert run_here(JOB, root).code == 0
    alone = read(folders(root)["none-naive-sgd"])
    outcome = run_here([*JOB, "references=true"], root)
    assert outcome.code == 0, outcome.err
    return root, alone, outcome


def test_values_are_taken_from_a_run_of_each_reference(done):
    root, _, outcome = done
    runs = folders(root)
    assert set(runs) == {"none-naive-sgd", *(f"none-{name}-sgd" for name in STRATEGIES)}
    assert "reference joint: runs in" in outcome.out
    ours = read(runs["none-naive-sgd"])
    for name in STRATEGIES:
        r = from_json(read(runs[f"none-{name}-sgd"])).matrix("slow", "accuracy")
        expected = np.diagonal(r, -1) if name == "independent" else r[-1]
        assert ours["references"][name]["slow"]["accuracy"] == pytest.approx(expected.tolist())


def test_metrics_that_need_references_are_filled_and_all_else_is_as_before(done):
    root, alone, _ = done
    ours = read(folders(root)["none-naive-sgd"])
    assert {name: ours["metrics"][name] for name in alone["metrics"]} == alone["metrics"]
    assert ours["rows"] == alone["rows"]
    r = from_json(ours).matrix("slow", "accuracy")
    learned, fresh = np.diagonal(r, -1), np.array(ours["references"]["independent"]["slow"]["accuracy"])
    assert ours["metrics"]["slow/accuracy/plasticity_gap_fresh"] == pytest.approx(float((fresh - learned).mean()))
    joint = ours["references"]["joint"]["slow"]["accuracy"]
    assert ours["metrics"]["slow/accuracy/intransigence_joint_last"] == pytest.approx(joint[-1] - learned[-1])
    assert "slow/accuracy/plasticity_gap_fresh" not in alone["metrics"]
    assert math.isfinite(ours["metrics"]["slow/accuracy/fwt_b_untrained"])


def test_frozen_learned_nothing_and_independent_begins_anew(done):
    runs = folders(done[0])
    frozen = from_json(read(runs["none-frozen-sgd"])).matrix("slow", "loss")
    assert (frozen == frozen[0]).all()
    alone = from_json(read(runs["none-independent-sgd"])).matrix("slow", "loss")
    naive = from_json(read(runs["none-naive-sgd"])).matrix("slow", "loss")
    # The first task is the same; from the second on naive begins elsewhere.
    assert alone[1].tolist() == naive[1].tolist()
    assert alone[2].tolist() != naive[2].tolist()


def test_what_the_readme_of_outputs_explains_is_there(done):
    section = (Path(__file__).parents[2] / "outputs/README.md").read_text().partition("What `results.json` holds")[2]
    keys = set(re.findall(r"^\| `(\w+)", section, re.MULTILINE))
    assert {"references", "rows", "anytime"} <= keys <= set(read(folders(done[0])["none-naive-sgd"]))


def test_nothing_known_is_measured_again(done, monkeypatch):
    """Neither here nor, for a run on several devices, by the processes that it would start."""
    root, _, _ = done
    file = folders(root)["none-naive-sgd"] / "results.json"
    times = {path: path.stat().st_mtime_ns for path in root.glob("outputs/*/*/*/results.json")}
    before, started = json.loads(file.read_text()), []
    monkeypatch.setattr(references, "untrained", lambda *args: pytest.fail("measured again"))
    monkeypatch.setattr(one_run, "run_on_devices", lambda config, **more: started.append(more["references"]) or 0)
    two = [*JOB, "references=true", "trainer=ddp", "trainer.devices=2"]
    again = run_here([*JOB, "references=true"], root)
    assert again.code == run_here(two, root).code == 0
    assert "reference joint: found in" in again.out
    assert "this run is already done" in again.out
    assert not started
    assert times == {path: path.stat().st_mtime_ns for path in root.glob("outputs/*/*/*/results.json")}
    # A reference that was not there yet is added without them being read again.
    one_less = {name: x for name, x in before["references"].items() if name != "joint"}
    file.write_text(with_references(before, one_less))
    assert run_here([*JOB, "references=true"], root).code == 0
    assert json.loads(file.read_text()) == before
    # What is not known takes all processes.
    file.write_text(with_references(before, {}))
    assert run_here([*JOB, "trainer=ddp", "trainer.devices=2"], root).code == 0
    assert not started
    assert run_here(two, root).code == 0
    assert [set(folders_by_name) for folders_by_name in started] == [set(STRATEGIES)]
    file.write_text(json.dumps(before))


def test_a_run_that_is_done_is_filled_in_by_its_owner_and_gets_a_new_page(done, tmp_path, monkeypatch):
    shutil.copytree(done[0] / "outputs", tmp_path / "outputs")
    folder, job, pages = folders(tmp_path)["none-naive-sgd"], [*JOB, "references=true", "report=true"], []
    monkeypatch.setattr(one, "write_run", lambda path: pages.append((folder / "lock").exists()))
    whole = read(folder)
    (folder / "results.json").write_text(with_references(whole, {}))
    lock = Lock(folder / "lock")
    lock.take()
    assert_refused(run_here(job, tmp_path), f"pid {os.getpid()}")
    assert read(folder)["references"] == {}
    lock.release()
    assert run_here(job, tmp_path).code == 0
    assert read(folder)["references"].keys() == whole["references"].keys()
    assert pages == [True]
    assert not (folder / "lock").exists()


def test_a_reference_ends_with_the_run_that_started_it(tmp_path, monkeypatch):
    watched = threading.Event()
    monkeypatch.setattr(worker, "_watch_starter", lambda starter: starter == os.getppid() and watched.set())
    monkeypatch.setattr(worker, "run_one", lambda config, **more: 0 if watched.wait(10) else 1)
    monkeypatch.setattr(sys, "argv", ["ttt-run"])
    order = torchrun.write_order(tmp_path, {}, trusted=[], references={}, rank=False)
    assert worker.work(json.loads(order.read_text())) == 0


def test_a_run_that_waits_for_the_reference_of_another_says_for_whom(tmp_path, monkeypatch):
    """Whoever sees a lock of a host that is gone must learn which file to delete."""
    notes: list[str] = []
    assembly = assembled(*JOB, f"output_dir={tmp_path}")
    reference = cli_references.Reference("joint", assembly, SimpleNamespace(note=notes.append))
    lock = reference.folder.lock.path
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    monkeypatch.setattr(cli_references.time, "sleep", lambda seconds: lock.unlink())
    monkeypatch.setattr(reference, "_start", lambda: "stopped")
    assert reference.run() == "stopped"
    assert re.search(f"elsewhere, pid 7.*{re.escape(str(lock))}", notes[-1])


def test_a_reference_that_fails_costs_its_metrics_not_the_run(tmp_path):
    """At this rate the joint run diverges; so does the run itself, which then says so."""
    outcome = run_here([*VECTORS, "optimizer.lr=1e30", "references=true"], tmp_path)
    assert "reference joint failed: the loss on" in outcome.out
    assert "reference frozen: done" in outcome.out
    assert outcome.code == 76


def test_what_is_refused_is_refused_before_the_references_run(tmp_path):
    outcome = run_here([*JOB, "strategy=consolidate", "references=true"], tmp_path)
    assert_refused(outcome, "strategy=consolidate")
    assert "reference" not in outcome.out
    assert not (tmp_path / "outputs").exists()


def test_a_published_value_is_shown_beside_a_run_that_it_is_about(tmp_path):
    published = {
        "source": "Somebody 2020",
        "metric": "slow/accuracy/avg_final",
        "values": [
            {"when": "strategy.name=naive optimizer.lr=0.1", "mean": 0.25, "sd": 0.02},
            {"when": "strategy.name=naive optimizer.lr=0.2", "mean": 0.99},
        ],
    }
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "known.yaml").write_text("# @package _global_\n" + yaml.safe_dump({"published": published}))
    outcome = run_here(["--config-dir=mine", "experiment=known", *JOB], tmp_path)
    assert outcome.code == 0, outcome.err
    assert "published slow/accuracy/avg_final 0.2500 ± 0.0200 (sd), here" in outcome.out
    assert "Somebody 2020" in outcome.out
    assert "0.9900" not in outcome.out
    # What is wrong there is refused before the run, not after it.
    (mine / "wrong.yaml").write_text("# @package _global_\n" + yaml.safe_dump({"published": {"source": "x"}}))
    assert_refused(run_here(["--config-dir=mine", "experiment=wrong", *JOB], tmp_path), "published", "metric")
    ((words, _),) = by_published([read_run(only_run(tmp_path))]).rows
    # One seed has no interval.
    assert words == [published["values"][0]["when"], "1", "-"]
