"""What a run is compared with: its reference runs, and published values."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from harness import only_run, run_here
from test_vectors import VECTORS

from ttt.cli.runs import references, torchrun
from ttt.compare.published import PublishedValue, agrees, by_published, published_values
from ttt.compare.runs import read_run
from ttt.metrics.seeds import t_interval
from ttt.results.saved import from_json
from ttt.run.references import STRATEGIES

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("references")

JOB = (*VECTORS, "optimizer.lr=0.1")


def folders(root):
    return {path.parent.parent.name: path.parent for path in root.glob("outputs/*/*/*/results.json")}


def read(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run, then the same with its references."""
    root = tmp_path_factory.mktemp("references")
    assert run_here(JOB, root).code == 0
    alone = read(folders(root)["none-naive-sgd"])
    outcome = run_here([*JOB, "references=true"], root)
    assert outcome.code == 0, outcome.err
    return root, alone, outcome


def test_each_reference_is_a_run_of_its_own_and_its_values_are_taken_from_it(done):
    root, _, _ = done
    found = folders(root)
    assert set(found) == {"none-naive-sgd", *(f"none-{name}-sgd" for name in STRATEGIES)}
    ours = read(found["none-naive-sgd"])
    for name in STRATEGIES:
        theirs = from_json(read(found[f"none-{name}-sgd"]))
        r = theirs.matrix("slow", "accuracy")
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
    root, _, _ = done
    found = folders(root)
    frozen = from_json(read(found["none-frozen-sgd"])).matrix("slow", "loss")
    assert (frozen == frozen[0]).all()
    alone = from_json(read(found["none-independent-sgd"])).matrix("slow", "loss")
    naive = from_json(read(found["none-naive-sgd"])).matrix("slow", "loss")
    # The first task is the same; from the second on naive begins elsewhere.
    assert alone[1].tolist() == naive[1].tolist()
    assert alone[2].tolist() != naive[2].tolist()


def test_what_the_readme_of_outputs_explains_is_there(done):
    root, _, _ = done
    section = (Path(__file__).parents[2] / "outputs/README.md").read_text().partition("What `results.json` holds")[2]
    keys = set(re.findall(r"^\| `(\w+)", section, re.MULTILINE))
    assert {"references", "rows", "anytime"} <= keys <= set(read(folders(root)["none-naive-sgd"]))


def test_references_are_found_again(done):
    root, _, first = done
    assert "reference joint: runs in" in first.out
    before = {name: (path / "results.json").stat().st_mtime for name, path in folders(root).items()}
    again = run_here([*JOB, "references=true"], root)
    assert again.code == 0
    assert "reference joint: found in" in again.out
    assert "this run is already done" in again.out
    assert before == {name: (path / "results.json").stat().st_mtime for name, path in folders(root).items()}


def test_random_weights_are_measured_once(done, monkeypatch):
    """Not even the processes of a run on several devices are started for what is known."""
    root, _, _ = done
    file = folders(root)["none-naive-sgd"] / "results.json"
    before, started = json.loads(file.read_text()), []
    monkeypatch.setattr(references, "untrained", lambda *args: pytest.fail("measured again"))
    monkeypatch.setattr(torchrun, "start", lambda config, **more: started.append(more["references"]) or 0)
    two = [*JOB, "references=true", "trainer=ddp", "trainer.devices=2"]
    assert run_here([*JOB, "references=true"], root).code == run_here(two, root).code == 0
    assert not started
    # A reference that was not there yet is added without them being read again.
    one_less = before | {"references": {name: x for name, x in before["references"].items() if name != "joint"}}
    file.write_text(json.dumps(one_less))
    assert run_here([*JOB, "references=true"], root).code == 0
    assert json.loads(file.read_text()) == before
    # What is not known takes all processes.
    file.write_text(json.dumps(before | {"references": {}}))
    assert run_here([*JOB, "trainer=ddp", "trainer.devices=2"], root).code == 0
    assert not started
    assert run_here(two, root).code == 0
    assert [set(given) for given in started] == [set(STRATEGIES)]
    file.write_text(json.dumps(before))


def test_a_reference_that_fails_costs_its_metrics_not_the_run(tmp_path):
    """At this rate the joint run leaves the numbers; so does ours, which then says so itself."""
    outcome = run_here([*VECTORS, "optimizer.lr=1e30", "references=true"], tmp_path)
    assert "reference joint failed: the loss on" in outcome.out
    assert "reference frozen: done" in outcome.out
    assert outcome.code == 76


def test_what_is_refused_is_refused_before_the_references_run(tmp_path):
    outcome = run_here([*JOB, "strategy=consolidate", "references=true"], tmp_path)
    assert outcome.code == 2
    assert "strategy=consolidate" in outcome.err
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
    ((words, _),) = by_published([read_run(only_run(tmp_path))]).rows
    # One seed has no interval.
    assert words == [published["values"][0]["when"], "1", "-"]


def test_agreement_is_two_published_sd_and_half_of_our_interval():
    value = PublishedValue("", "slow/accuracy/avg_final", "x", mean=0.5, sd=0.05)
    ours = t_interval([0.6, 0.62, 0.61])
    assert 0.1 < abs(ours.mean - value.mean) <= 0.1 + ours.half
    assert agrees(ours, value) == "yes"
    assert agrees(t_interval([0.7, 0.7, 0.7]), value) == "no"
    assert published_values({"published": None}) == []


@pytest.mark.parametrize(
    ("ours", "sd"), [([0.5], 0.05), ([0.5, 0.5], math.nan), ([0.5, math.nan], 0.05)], ids=["n=1", "no sd", "unmeasured"]
)
def test_agreement_is_not_known_where_a_spread_is_not(ours, sd):
    assert agrees(t_interval(ours), PublishedValue("", "slow/accuracy/avg_final", "x", mean=0.5, sd=sd)) == "-"
