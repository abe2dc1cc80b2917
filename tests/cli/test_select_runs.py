"""A part of a sweep or of a study: `--only KEY=VALUE` and `--seeds 0`; what it takes."""

from __future__ import annotations

import json

import pytest
from assembling import config_of
from commands import assert_refused
from harness import run_here
from sweeping import SMALLEST

from ttt.cli.runs.parser import parse_command
from ttt.cli.sweeps.select import runs_of
from ttt.cli.sweeps.study import expand


def chosen(*words):
    """Return the runs of a command, sweep after sweep."""
    sweeps = expand(parse_command(words))
    return [run for sweep in sweeps for run in runs_of(sweep.overrides, only=sweep.only)]


def test_a_part_of_a_study_is_all_runs_with_these_values():
    every = chosen("--study", "frontier")
    some = chosen("--study", "frontier", "--only", "adapter.name=mlp_fast", "--only=optimizer.lr=3e-4,0.001")
    expected = [
        run for run in every if "adapter=mlp_fast" in run and {"optimizer.lr=0.0003", "optimizer.lr=0.001"} & set(run)
    ]
    # A run that does not name a rate has that of its optimizer, which is 3e-4.
    expected += [run for run in every if "adapter=mlp_fast" in run and not any("optimizer.lr" in w for w in run)]
    assert sorted(some) == sorted(expected)
    assert chosen("--study", "frontier", "--seeds", "0") == [run for run in every if "seed=0" in run]
    assert chosen("-m", "adapter=none,mlp_fast", "seeds=3", "--only", "adapter=none", "--seeds=1,2") == [
        ["adapter=none", "seed=1"],
        ["adapter=none", "seed=2"],
    ]


WRONG = [
    (["-m", "seeds=2", "--only", "adapter"], ["--only adapter:", "KEY=VALUE"]),
    (["-m", "adapter=none,mlp_fast", "--only=adapter=mlpfast"], ["--only adapter=mlpfast", "did you mean mlp_fast?"]),
    (["-m", "seeds=2", "--seeds", "5"], ["seed=5", "allowed: 0, 1"]),
    (["-m", "seeds=2", "--only", "adaptor=none"], ["--only adaptor", "did you mean adapter?"]),
    (["adapter=none", "--only", "seed=0"], ["--only seed=0", "-m"]),
    (["-m", "seeds=2", "--seeds=0", "hydra/launcher=joblib"], ["--only seed=0", "launchers"]),
]


@pytest.mark.parametrize(("words", "parts"), WRONG, ids=lambda value: value[-1])
def test_wrong_words(words, parts, tmp_path):
    assert_refused(run_here(words, tmp_path), *parts)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_how_long_the_rest_takes(tmp_path):
    words = ["-m", "--dry-run", *SMALLEST, "adapter=none,mlp_fast", "seeds=3"]
    first = run_here(words, tmp_path)
    assert "of computing" not in first.out
    folders = [tmp_path / line.split(": ")[1].split(" (")[0] for line in first.out.splitlines()[:-1]]
    # Two of one method are done, in 100 and 200 s; all others are taken to need 150 s each.
    for folder, seconds in zip(folders[:2], (100.0, 200.0), strict=True):
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"status": "done", "seconds": seconds}))
    outcome = run_here([*words, "sweep.jobs=2"], tmp_path)
    assert "about 10 min of computing, judged by 2 finished runs; 5 min with 2 at a time" in outcome.out
    assert outcome.out.endswith("6 runs: 2 done, 4 to do\n")


def test_each_base_has_the_seed_of_its_run(tmp_path):
    assert config_of("base.seed=each", "seed=7")["base"]["seed"] == 7
    words = ["-m", "--dry-run", *SMALLEST, "adapter=none", "base=pretrain"]
    commands = (["seeds=2", "base.seed=each"], ["seed=1", "base.seed=1"])
    each, alone = (run_here([*words, *more], tmp_path).out for more in commands)
    assert each.splitlines()[1].split(": ")[1] == alone.splitlines()[0].split(": ")[1]
