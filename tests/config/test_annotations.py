"""Annotations that are read from source equal those that Python gives, for every part of ours."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing
from importlib.resources import files

import pytest
import yaml

from ttt.config.annotations import check_values, hints_of
from ttt.config.build import locate
from ttt.config.parts import shipped

TARGETS = sorted(
    {
        section["_target_"]
        for file in files("ttt.conf").glob("*/*.yaml")
        for content in [yaml.safe_load(file.read_text()) or {}]
        for section in [content, *(x for x in content.values() if isinstance(x, dict))]
        if "_target_" in section
    }
)


@pytest.mark.parametrize("target", TARGETS)
def test_source_and_class_say_the_same(target):
    kind = locate(target, group=shipped()[target], trusted=())
    annotated = kind if dataclasses.is_dataclass(kind) else kind.__init__
    hints = typing.get_type_hints(annotated, include_extras=True)
    read = hints_of(target)
    assert read == {key: hints[key] for key in read}
    # What is not read is checked later, when torch is there: that is rare.
    arguments = inspect.signature(kind).parameters.keys() & hints.keys()
    assert len(arguments - read.keys()) <= 3


def test_a_wrong_value_is_refused_without_torch():
    code = (
        "import sys\n"
        "from ttt.config.annotations import check_values\n"
        "try:\n"
        "    check_values({'optimizer': {'_target_': 'ttt.optimizers.adamw.AdamW', 'lr': -1.0}})\n"
        "except ValueError as error:\n"
        "    print(error)\n"
        "print('torch' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0].startswith("optimizer.lr=-1")
    assert said[1] == "False"


def test_classes_of_others_are_left_alone():
    check_values({"adapter": {"_target_": "mine.Mine", "chunk": -1}, "seed": 0})
    assert hints_of("ttt.adapters.mlp_fast.Nothing") == {}
    assert hints_of("ttt.nowhere.Nothing") == {}
