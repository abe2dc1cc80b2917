"""`--help` explains every group, option and setting, in lines that fit a terminal."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ttt.cli.commands import COMMANDS, version_line
from ttt.cli.completion.parsers import parser_of
from ttt.cli.runs.help import Library, help_text
from ttt.config.messages import UsageError


def test_it_fits_a_terminal_and_names_every_group():
    text = help_text([], config_dir=None)
    assert max(map(len, text.splitlines())) <= 80
    for group in Library([]).groups():
        assert f"\n  {group} " in text


def test_every_option_is_explained():
    library = Library([])
    for group in library.groups():
        listing = help_text([group], config_dir=None)
        for option in library.options(group):
            assert option in listing
            assert max(map(len, help_text([f"{group}={option}"], config_dir=None).splitlines())) <= 160


def test_a_setting_has_its_default_its_values_and_its_reason():
    text = help_text(["adapter.chunk"], config_dir=None)
    assert "adapter.chunk=32    (an integer at least 1)" in text
    assert "Chunk length" in text
    assert "eval.every=auto" in help_text(["eval"], config_dir=None)


def test_a_part_of_the_users_own(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/mine.yaml").write_text("# Mine.\n_target_: mine.Mine\nname: mine\n# How fast.\nspeed: 3\n")
    text = help_text(["adapter=mine"], config_dir=str(tmp_path))
    assert "adapter.speed=3" in text
    assert "How fast." in text


@pytest.mark.parametrize(
    ("word", "near"), [("adpter", "adapter"), ("adapter=mlpfast", "mlp_fast"), ("adapter.chnk", "chunk")]
)
def test_a_wrong_word_is_answered_with_the_nearest(word, near):
    with pytest.raises(UsageError, match=f"did you mean {near}"):
        help_text([word], config_dir=None)


def test_a_closed_pipe_ends_it_quietly():
    command = f"{sys.executable} -m ttt.cli.run --help adapter=mlp_fast | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("adapter=mlp_fast")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_its_version(command, capsys):
    with pytest.raises(SystemExit) as end:
        parser_of(command).parse_args(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == version_line()
