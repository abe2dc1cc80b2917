"""Files of a stranger: they are refused in one line, and soon."""

from __future__ import annotations

import pytest

from ttt.storage.read import read_config
from ttt.storage.whole import read_json


def test_a_bomb_of_aliases_is_refused(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"config\.yaml: holds no config"):
        read_config(tmp_path)


def test_aliases_of_an_honest_file_are_read(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\ntask: &a {tasks: [1, 2]}\nsource: *a\n")
    assert read_config(tmp_path) == {"seed": 1, "task": {"tasks": [1, 2]}, "source": {"tasks": [1, 2]}}


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "{", "\x00", ""])
def test_brackets_without_end_are_refused(tmp_path, content):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"results\.json"):
        read_json(file)


def test_yaml_without_end_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("[" * 20_000)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_config(tmp_path)
