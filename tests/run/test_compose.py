"""Configs are composed quickly: what Hydra alone would make of the same words."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import ttt.conf
from ttt.config.messages import UsageError
from ttt.run.compose import Composer, composing, resolve
from ttt.run.packaged import _parsed


def composed(words, *, config_dir=None):
    GlobalHydra.instance().clear()
    try:
        with composing(config_dir) as composer:
            return resolve(composer.config(words))
    except (UsageError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize(
    "words",
    [
        ["adapter=mlp_fast", "adapter.chunk=4", "seed=3", "seed=4"],
        ["strategy=replay", "strategy@also=l2_init", "strategy.size=8"],
        ["experiment=claim", "optimizer.lr=1e-4", "eval.known=[prose, code]"],
        ["+adapter.new=1", "++adapter.also={a: 1}", "adapter={chunk: 4}"],
        ["optimizer=sgd", "optimizer=adamw", "hydra.sweep.dir=there"],
        ["optimizer=sgd,adamw"],
        ["source=null"],
        ["adapter=7"],
        ["adapter.nope=1"],
        ["+adapter=none"],
        ["~adapter"],
    ],
)
def test_settings_on_parts_that_were_composed_before(words):
    with mock.patch.object(Composer, "_on_choices", return_value=None):
        expected = composed(words)
    assert composed(words) == expected
    # What a composition changes does not reach the next one.
    assert composed(words) == expected


def test_files_of_the_users_own_are_read_each_time(tmp_path):
    (tmp_path / "adapter").mkdir()
    for chunk in (3, 5):
        (tmp_path / "adapter" / "mine.yaml").write_text(f"name: mine\nchunk: {chunk}\n")
        assert composed(["adapter=mine"], config_dir=str(tmp_path))["adapter"]["chunk"] == chunk


def test_our_files_are_what_omegaconf_reads():
    """Its own loader refuses a key that stands twice, which the faster one does not see."""
    files = sorted(Path(ttt.conf.__file__).parent.rglob("*.yaml"))
    assert len(files) > 50
    for file in files:
        assert OmegaConf.create(_parsed(file.read_text()) or {}) == OmegaConf.load(file), file
