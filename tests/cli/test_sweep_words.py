"""Sweeps as typed: which runs they are, and which words are refused."""

from __future__ import annotations

import os

import pytest
from commands import assert_refused
from harness import run_here
from hydra.core.config_store import ConfigStore

from ttt.cli.runs.check import check_command
from ttt.cli.runs.parser import parse_command
from ttt.cli.sweeps.grid import split
from ttt.cli.sweeps.study import expand
from ttt.cli.sweeps.sweep import count_jobs
from ttt.config.extras import install


def runs(*words: str) -> list[list[str]]:
    (typed,) = expand(parse_command(["-m", *words]))
    check_command(typed)
    return split(typed.overrides)


def test_seeds_are_one_word_for_the_first_so_many():
    assert runs("seeds=3") == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert runs("seeds=1", "adapter=none") == [["seed=0", "adapter=none"]]
    assert len(runs("experiment=recall", "adapter=none,mlp_fast", "seeds=5")) == 10
    # With a launcher too: it is Hydra's own word by then.
    assert "seed=0,1" in expand(parse_command(["-m", "hydra/launcher=joblib", "seeds=2"]))[0].overrides


def test_ranges_and_lists_are_hydras_own():
    assert runs("seed=range(5)") == [[f"seed={k}"] for k in range(5)]
    assert runs("task.num_tasks=range(2,5)") == [[f"task.num_tasks={k}"] for k in (2, 3, 4)]
    assert runs("optimizer.lr=1e-4,3e-4") == [["optimizer.lr=0.0001"], ["optimizer.lr=0.0003"]]
    assert len(runs("adapter=none,mlp_fast", "optimizer=adamw,sgd", "seeds=3")) == 12


WRONG = [
    (["-m", "seeds=0"], ["seeds=0", "at least 1"]),
    (["-m", "seeds=a"], ["seeds=a", "at least 1"]),
    (["-m", "seeds="], ["seeds=", "at least 1"]),
    (["seeds=3"], ["seeds=3", "-m"]),
    (["-m", "seed=1", "seeds=3"], ["seeds=3", "seed="]),
    (["-m", "hydra/sweeper=optuna", "seeds=2"], ["seeds=2", "seed"]),
    (["sweep.jobs=0"], ["sweep.jobs=0", "auto", "at least 1"]),
    (["-m", "seeds=2", "sweep.jobs=many"], ["sweep.jobs=many", "auto", "at least 1"]),
    (["-m", "seeds=2", "sweep.max_failures=0"], ["sweep.max_failures=0", "null", "at least 1"]),
    (["-m", "seeds=2", "hydra/launcher=jobib"], ["hydra/launcher=jobib", "did you mean joblib?"]),
    (["hydra/launcher=joblib"], ["hydra/launcher=joblib", "-m"]),
    (
        ["-m", "hydra/launcher=joblib", "hydra.launcher.n_job=2"],
        ["hydra.launcher.n_job=2", "'n_job'"],
    ),
    (["-m", "hydra/launcher=joblib", "adapter=mlpfast"], ["adapter=mlpfast", "did you mean mlp_fast?"]),
    (["-m", "optimizer.lr=interval(1e-4,1e-3)"], ["optimizer.lr=interval(1e-4,1e-3)", "hydra/sweeper=optuna"]),
    (
        ["-m", "seeds=2", "sweep.objective=fast/los/avg_final"],
        ["sweep.objective=fast/los/avg_final", "fast/loss/avg_final"],
    ),
    (["-m", "seeds=2", "experiment=frontir"], ["experiment=frontir", "did you mean frontier?"]),
    (["--study", "frontir"], ["--study frontir", "did you mean frontier?"]),
    (["--study", "recall", "experiment=recall"], ["--study recall"]),
    (["study=[a]"], ["study=[a]", "--study NAME"]),
    (["--dry-run"], ["--dry-run", "-m", "--study"]),
    (["-m", "seeds=2", "--preview"], ["--preview", "-m"]),
    (["-m", "seeds=2", "hydra/launcher=joblib", "optimizer.lr=2", "a b"], ["a b", "name=value"]),
]


@pytest.mark.parametrize(("args", "parts"), WRONG, ids=lambda value: value[-1])
def test_wrong_words(args, parts, tmp_path):
    outcome = run_here(args, tmp_path)
    assert_refused(outcome, *parts)
    assert outcome.err.startswith("ttt-run: ")
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    for word, extra in (("hydra/launcher=ray", "ray"), ("hydra/sweeper=optuna", "optuna")):
        with monkeypatch.context() as patch:
            # As if nobody had installed it, where somebody has.
            patch.setattr(ConfigStore, "list", without_plugin(word.partition("=")[2]))
            outcome = run_here(["-m", word, "optimizer.lr=1e-3,1e-4"], tmp_path)
        assert_refused(outcome, word, install(extra))
    assert not list(tmp_path.iterdir())


def without_plugin(name: str):
    real = ConfigStore.list

    def listed(self, path):
        return [file for file in real(self, path) if file != f"{name}.yaml"]

    return listed


def test_as_many_runs_as_cores_and_fewer_where_each_takes_several():
    cores = os.cpu_count() or 1
    assert count_jobs("auto", accelerator="cpu", devices="auto") == cores
    assert count_jobs("auto", accelerator="cpu", devices=cores * 2) == 1
    assert count_jobs("auto", accelerator="cuda", devices="auto") == 1
    assert count_jobs(7, accelerator="cpu", devices=2) == 7
