"""A pool's arguments: what is refused, what the YAML builds, and what a base does not depend on."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from toy_prompts import ARGUMENTS, LAYOUT, PLACES, make

from ttt.config.build import build
from ttt.config.code_hash import code_hash
from ttt.config.identity import base_adapter

WRONG = [
    ({"layout": None}, "adapter=prompt_pool: "),
    ({"reset": "sequence"}, "adapter.reset=sequence: "),
    ({"reset": "tasks"}, "adapter.reset=tasks: "),
    ({"emit": 0}, "adapter.emit=0: "),
    ({"pool": 0}, "adapter.pool=0: "),
    ({"proposals": -1}, "adapter.proposals=-1: "),
    ({"minibatch": 0}, "adapter.minibatch=0: "),
    ({"problems": 0}, "adapter.problems=0: "),
    ({"emit": 9}, "adapter.emit=9: "),
    ({"proposer": "mutant"}, "adapter.proposer=mutant: "),
    ({"search": "gega"}, "adapter.search=gega: "),
    ({"accept": "better"}, "adapter.accept=better: "),
    ({"proposer": "callable"}, "adapter.proposer=callable: "),
    ({"propose": "toy_prompts:same"}, "adapter.proposer=mutate: "),
    ({"proposer": "callable", "propose": "no_such:f"}, "adapter.propose=no_such:f: "),
    ({"proposer": "random", "search": "gepa"}, "adapter.search=gepa: "),
]  # fmt: skip


@pytest.mark.parametrize(("options", "start"), WRONG, ids=lambda x: str(x)[:40])
def test_what_does_not_fit_is_refused_in_one_line(options, start):
    with pytest.raises(ValueError, match=r"^adapter") as error:
        make(**options)
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)


def test_the_pool_that_is_too_small_is_named():
    with pytest.raises(ValueError, match=r"^adapter\.emit=9: .*adapter\.pool=8"):
        make(emit=9)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("ttt.prompts.settings.find_spec", lambda name: None)
    # search=pool needs no package.
    make()
    with pytest.raises(ValueError, match=r"^adapter\.search=gepa: .*pip install .*gepa=="):
        make(search="gepa")


def from_yaml():
    content = OmegaConf.load(Path(str(files("ttt.conf"))) / "adapter" / "prompt_pool.yaml")
    return OmegaConf.to_container(content, resolve=True)


def test_the_yaml_builds_it():
    config = from_yaml()
    assert set(config) - {"_target_", "base"} == set(ARGUMENTS) - {"layout"}
    section = {name: value for name, value in config.items() if name != "base"}
    pool = build(section, group="adapter", given={}, trusted=[], offered={"layout": LAYOUT})
    assert pool.emitted(pool.initial()).shape == (4, PLACES)
    with pytest.raises(ValueError, match=r"^adapter=prompt_pool: "):
        build(section, group="adapter", given={}, trusted=[], offered={"layout": None})


def test_a_base_is_that_of_no_adapter_whatever_the_search():
    assert base_adapter(from_yaml()) == base_adapter(from_yaml() | {"pool": 3, "proposer": "informed"})
    assert base_adapter(from_yaml())["name"] == "none"


def test_a_base_does_not_depend_on_the_code_that_searches_prompts(monkeypatch):
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    code_hash()
    # Otherwise the hash would have been read from somewhere else.
    assert read
    assert not [path for path in read if path.parent.name == "prompts"]
