"""A broken file of the user's own: one line with the file, the line and the cause."""

from __future__ import annotations

import pytest
from commands import assert_refused
from harness import SMALL, run_here

NAMED = "_target_: broken.Mine\nname: mine\n"
# The module, the YAML, and what the line says.
BROKEN = [
    ("x = 1\ndef f(:\n", NAMED, ["broken.py, line 2", "SyntaxError"]),
    ("\nimport nowhere_at_all\n", NAMED, ["broken.py, line 2", "nowhere_at_all"]),
    ("from ttt.adapters.none import Nope\n", NAMED, ["broken.py, line 1", "Nope"]),
    ("x = 1 / 0\n", NAMED, ["broken.py, line 1", "ZeroDivisionError"]),
    ("class Min:\n    pass\n", NAMED, ["adapter._target_=broken.Mine", "did you mean Min?"]),
    ("", NAMED + "  rate: 3\n", ["adapter/mine.yaml, line 3"]),
    ("", "- name\n", ["adapter/mine.yaml", "not a list"]),
    ("", NAMED + "rate: ${nothing.here}\n", ["adapter.rate", "nothing.here"]),
    ("", NAMED.replace("broken", "nowhere"), ["nowhere.Mine", "--config-dir"]),
]


@pytest.mark.parametrize(("module", "yaml", "parts"), BROKEN)
def test_a_broken_file_is_one_line(module, yaml, parts, tmp_path, monkeypatch):
    (tmp_path / "mine" / "adapter").mkdir(parents=True)
    (tmp_path / "mine" / "broken.py").write_text(module)
    (tmp_path / "mine" / "adapter" / "mine.yaml").write_text(yaml)
    # Another folder than that of the test before, for a module of the same name.
    monkeypatch.syspath_prepend(tmp_path / "mine")
    monkeypatch.delitem(__import__("sys").modules, "broken", raising=False)
    assert_refused(run_here(["--config-dir", "mine", *SMALL, "adapter=mine"], tmp_path), *parts)
