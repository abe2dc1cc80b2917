"""Hydra's own settings, from the command line or from a stranger's file: nothing runs or is made."""

from __future__ import annotations

import pytest
from commands import assert_refused
from harness import run_here

FILES = {
    "callback": "hydra:\n  callbacks:\n    x:\n      _target_: pathlib.Path.write_text\n      self: MARK\n",
    "folder": "hydra:\n  run:\n    dir: MARK\n",
    "subfolder": "hydra:\n  output_subdir: MARK\n",
    "launcher": "hydra:\n  launcher:\n    _target_: os.system\n",
    "sampler": "hydra:\n  sweeper:\n    sampler:\n      _target_: os.system\n",
    "logging": "hydra:\n  job_logging:\n    handlers:\n      f: {class: logging.FileHandler, filename: MARK}\n",
    "environment": "hydra:\n  job:\n    env_set: {PATH: MARK}\n",
    "elsewhere": "task:\n  name: ../../MARK\n",
    "absolute": "adapter:\n  name: /MARK\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("sweep", [False, True])
def test_a_file_of_a_stranger(tmp_path, name, sweep):
    mark = tmp_path / "mark"
    folder = tmp_path / "evil/experiment"
    folder.mkdir(parents=True)
    (folder / "x.yaml").write_text("# @package _global_\n" + FILES[name].replace("MARK", str(mark).lstrip("/")))
    words = ["--config-dir", str(tmp_path / "evil"), "experiment=x"]
    outcome = run_here([*words, *(["-m", "seed=0,1", "--dry-run"] if sweep else [])], tmp_path)
    assert_refused(outcome)
    assert name not in ("elsewhere", "absolute") or "name=" in outcome.out + outcome.err
    assert not mark.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"evil"}


@pytest.mark.parametrize(
    "word", ["hydra.verbose=64", "hydra.run.dir=x", "hydra.job.chdir=true", "+hydra.job.env_set.A=1", "++hydra.x=1"]
)
def test_a_word(tmp_path, word):
    assert_refused(run_here([word], tmp_path), "hydra.")
