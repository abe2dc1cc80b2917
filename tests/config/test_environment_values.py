"""Values of the environment: a token never reaches a file of a run, a path may come from there."""

from __future__ import annotations

import pytest
from harness import FAST, TINY, only_run, run_here
from omegaconf import OmegaConf

from ttt.config.environment_values import resolve_paths_alone

SECRET = "hf_neverwritten"


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)


@pytest.mark.parametrize(
    "value",
    ["${oc.env:HF_TOKEN}", "x ${oc.env:HF_TOKEN} y", "${oc.decode:${oc.env:HF_TOKEN}}", "${oc.${n}:HF_TOKEN}", "${m}"],
)
def test_a_value_of_the_environment_is_refused_however_it_is_written(value):
    config = OmegaConf.create({"n": "env", "logger": {"project": value}, "m": "${oc.env:HF_TOKEN,x}"})
    with pytest.raises(ValueError, match=r"^(logger\.project|m): .*HF_TOKEN") as refusal:
        resolve_paths_alone(config)
    assert SECRET not in str(refusal.value)
    # Other code of this process reads the environment as before.
    assert OmegaConf.create({"x": "${oc.env:HF_TOKEN}"}).x == SECRET


def test_paths_come_from_the_environment():
    config = OmegaConf.create({"source": {"path": "${oc.env:HF_TOKEN}/x"}, "cache_dir": "${oc.env:NOT_THERE,here}"})
    assert resolve_paths_alone(config) == {"source": {"path": f"{SECRET}/x"}, "cache_dir": "here"}


@pytest.mark.parametrize(
    "typed", ["logger.name=${oc.env:HF_TOKEN}", "+adapter.note=${oc.env:HF_TOKEN}", "sweep.jobs=${oc.env:HF_TOKEN}"]
)
def test_a_command_with_a_token_is_one_line_and_leaves_nothing(typed, tmp_path):
    outcome = run_here([*TINY, *FAST, typed], tmp_path)
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert SECRET not in outcome.out + outcome.err
    assert not list(tmp_path.iterdir())


def test_no_file_of_a_run_holds_its_environment(tmp_path):
    assert run_here([*TINY, *FAST, "report=true"], tmp_path).code == 0
    files = [file for file in only_run(tmp_path).rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
