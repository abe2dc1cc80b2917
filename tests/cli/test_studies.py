"""Studies: sweeps that an experiment lists, run by name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from assembling import config_of, without
from commands import assert_refused
from harness import TINY, run_here
from sweeping import SMALLEST

from ttt.cli.runs.parser import parse_command
from ttt.cli.sweeps.grid import split
from ttt.cli.sweeps.study import expand

ROOT = Path(__file__).parents[2]
STUDIES = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml") if "\nstudy:" in path.read_text()}


@pytest.fixture
def experiments(tmp_path):
    """Return the folder of a user's own experiments, named by --config-dir=mine."""
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    return folder


def test_every_study_is_a_sweep_that_fits():
    assert {"frontier", "recall", "plasticity", "no-shift", "permuted-digits", "recall-distance"} <= STUDIES
    for name in STUDIES:
        combinations = [run for typed in expand(parse_command(["--study", name])) for run in split(typed.overrides)]
        assert len(combinations) >= 2
        for run in (combinations[0], combinations[-1]):
            assert config_of(*run)["output_dir"] == f"outputs/{name}"


def test_what_is_typed_beside_a_study_wins():
    (typed,) = expand(parse_command(["--study", "resets", "seed=7", "optimizer.lr=1e-3", "output_dir=elsewhere"]))
    assert split(typed.overrides) == [
        ["experiment=resets", f"adapter.reset={reset}", "seed=7", "optimizer.lr=0.001", "output_dir=elsewhere"]
        for reset in ("sequence", "never")
    ]
    assert len(split(expand(parse_command(["--study", "resets", "seeds=2"]))[0].overrides)) == 12


def test_a_study_of_several_sweeps_runs_one_after_another(experiments, tmp_path):
    """One sweep may name what another has no setting for."""
    (experiments / "two.yaml").write_text(
        "# @package _global_\nstudy:\n  - [optimizer=sgd, optimizer.momentum=0.5]\n  - [optimizer=adam, 'seed=0,1']\n"
    )
    outcome = run_here(["--config-dir=mine", "--study", "two", *SMALLEST, "--dry-run"], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("outputs/two/") == 3
    assert "-sgd/seed0-" in outcome.out
    assert "-adam/seed1-" in outcome.out


def test_a_study_of_ones_own_is_run_by_name(experiments, tmp_path):
    (experiments / "pair.yaml").write_text(
        '# @package _global_\nstudy: ["adapter=none,mlp_fast"]\ntask:\n  num_tasks: 2\n'
    )
    (experiments / "none.yaml").write_text("# @package _global_\nseed: 3\n")
    outcome = run_here(["--config-dir=mine", "--study", "none"], tmp_path)
    assert_refused(outcome, "--study none", "experiment/none.yaml")
    typed = ["--config-dir=mine", "--study", "pair", *(o for o in SMALLEST if not o.startswith("task.num_tasks"))]
    outcome = run_here([*typed, "--dry-run"], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "adapter=mlp_fast: outputs/pair/split-sequence/mlp_fast-naive-adamw/seed0-" in outcome.out
    assert outcome.out.endswith("2 runs: 0 done, 2 to do\n")


def test_a_study_is_no_part_of_what_a_run_is(tmp_path):
    """The same numbers, typed as a study or not: the same folder."""
    small = [*without(TINY, "source=", "task.seq_len="), "task.seq_len=36"]
    shown = [
        run_here(["-m", "--dry-run", *small, "output_dir=outputs", *words], tmp_path).out
        for words in (["--study", "recall", "seeds=1", "optimizer.lr=1e-3"],
                      ["experiment=recall", "adapter=none,mlp_fast", "optimizer.lr=1e-3", "seed=0"],
                      ["source=recall", "adapter=none,mlp_fast", "optimizer.lr=1e-3", "task.steps_per_task=3"])
    ]  # fmt: skip
    names = [sorted(word for word in text.split() if "/seed0-" in word) for text in shown]
    assert len(names[0]) == 2
    assert names[0] == names[1] == names[2]


def test_make_study_runs_a_study_and_writes_its_page():
    make = ["make", "-n", "-o", ".venv/ready", "study", "NAME=frontier"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ".venv/bin/ttt-run --study frontier" in done.stdout
    assert ".venv/bin/ttt-report outputs/frontier -o outputs/frontier/report.html" in done.stdout
    make = ["make", "-o", ".venv/ready", "study"]
    nameless = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert nameless.returncode == 2
    # Below another make, it also says which folder it is in.
    (line,) = (line for line in nameless.stdout.splitlines() if "one of " in line)
    assert set(line.partition("one of ")[2].split()) == STUDIES
