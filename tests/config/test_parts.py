"""A class is built only where a part of its kind belongs."""

from __future__ import annotations

import sys

import pytest

from ttt.config.build import locate
from ttt.config.parts import KINDS, refuse_place, shipped

WRONG = [
    # Another group, a helper beside the parts, a protocol, no part at all.
    ("adapter", "ttt.tasks.needle.Needle", "belongs to source"),
    ("source", "ttt.tasks.split_sequence.SplitSequence", "belongs to task"),
    ("base_source", "ttt.adapters.mlp_fast.MlpFast", "belongs to adapter"),
    ("also", "ttt.optimizers.sgd.SGD", "belongs to optimizer"),
    ("adapter.inner", "ttt.models.nano.Nano", "belongs to model"),
    ("logger", "ttt.sinks.base.RunInfo", "ttt.sinks"),
    ("adapter", "ttt.adapters.base.Adapter", "ttt.adapters"),
    ("task", "ttt.tasks.machinery.tokenizers.Tokenizer", "build"),
    ("adapter", "ttt.cli.worker.main", "ttt.adapters"),
    ("trainer", "ttt.devices.one_device.OneDevice", "fabric"),
]


@pytest.mark.parametrize(("group", "path", "said"), WRONG)
def test_a_class_of_another_kind_is_refused(group, path, said):
    with pytest.raises(ValueError, match="_target_") as refusal:
        locate(path, group=group, trusted=[])
    assert str(refusal.value).startswith(f"{group}._target_={path}: ")
    assert said in str(refusal.value)


def test_a_refused_module_is_not_imported():
    sys.modules.pop("ttt.cli.worker", None)
    with pytest.raises(ValueError, match="adapter takes"):
        locate("ttt.cli.worker.Main", group="adapter", trusted=[])
    assert "ttt.cli.worker" not in sys.modules


@pytest.mark.parametrize(("path", "group"), sorted(shipped().items()))
def test_every_part_of_ours_is_taken_where_its_yaml_lies(path, group):
    assert locate(path, group=group, trusted=[]).__name__ == path.rpartition(".")[2]
    assert [other for other in KINDS if not refuse_place(path, group=other)] == [group]


@pytest.mark.parametrize(
    ("body", "is_taken"), [("def draw(self): ...", False), ("draw = evaluation = families = print", True)]
)
def test_a_part_of_the_users_own_has_the_methods_of_its_group(body, is_taken, tmp_path, monkeypatch):
    name = f"mine_{is_taken}"
    (tmp_path / f"{name}.py").write_text(f"class Mine:\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    if is_taken:
        assert locate(f"{name}.Mine", group="source", trusted=[tmp_path]).__name__ == "Mine"
        # Inside a part, other things may be built as well.
        assert locate(f"{name}.Mine", group="adapter.inner", trusted=[tmp_path])
    else:
        with pytest.raises(ValueError, match="source takes"):
            locate(f"{name}.Mine", group="source", trusted=[tmp_path])
