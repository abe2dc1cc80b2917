"""Explanations are read from YAML files: heads, keys that share a comment, lists, includes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ttt.config.explained import Setting, allowed_values, explain, explain_option

ROOT = Path(__file__).parents[2]
FILE = """\
# What this is, on
# two lines.
_target_: ttt.somewhere.Thing
name: thing
# How many; null: all.
count: null
# Either of two words.
#   one   the first, which
#         goes on here
#   two   the second
word: one
# A size and
# a rate.
size: [3, 4]
rate: 0.1
seq_len: ${task.seq_len}
inner:
  # Deep.
  depth: {a: 1}
"""


def test_a_file_explains_itself_and_its_settings():
    explained = explain(FILE)
    assert (explained.about, explained.target) == ("What this is, on two lines.", "ttt.somewhere.Thing")
    assert explained.settings == (
        Setting("count", "null", "How many; null: all."),
        Setting("word", "one", "Either of two words.\n  one   the first, which goes on here\n  two   the second"),
        Setting("size", "[3, 4]", "A size and a rate."),
        Setting("rate", "0.1", "A size and a rate."),
        Setting("seq_len", "${task.seq_len}", ""),
        Setting("inner.depth", "{a: 1}", "Deep."),
    )


def test_the_first_sentence_of_a_part_is_about_the_part():
    explained = explain("# What all share; each\n# file includes this.\n# A number.\n# More on it.\nn: 1\n")
    assert explained.about == "What all share; each file includes this."
    assert explained.settings == (Setting("n", "1", "A number. More on it."),)


def test_an_option_has_what_it_includes():
    files = {
        "group/mine": "# Mine.\ndefaults: [/part@_here_, theirs, /group/else@inner, _self_]\n# Small here.\nn: 1\n",
        "group/theirs": "# Theirs.\n_target_: ttt.x.Y\nname: theirs\n# A number.\nn: 2\nm: 3\n",
        "part": "# What all have.\n# Another.\nk: 4\n",
    }
    explained = explain_option("group/mine", read=files.__getitem__)
    assert (explained.about, explained.target) == ("Mine.", "ttt.x.Y")
    assert explained.settings == (
        Setting("n", "1", "A number. Here: Small here."),
        Setting("k", "4", "Another."),
        Setting("m", "3", "A number."),
    )


def test_an_option_of_another_package_has_its_own_section():
    file = "# @package _global_\n# A model.\ndefaults: [override /base: none]\nmodel:\n  name: ???\n  size: 1\n"
    explained = explain_option("model/mine", read={"model/mine": file}.__getitem__)
    assert explained.about == "A model."
    assert [(setting.key, setting.default) for setting in explained.settings] == [("name", "???"), ("size", "1")]


def test_allowed_values_are_those_of_the_annotations():
    allowed = allowed_values("ttt.strategies.replay.Replay", group="strategy")
    assert allowed["balance"] == "one of reservoir, task, class"
    with pytest.raises(ValueError, match="strategy"):
        allowed_values("os.path.Nothing", group="strategy")
    assert "at least 1" in allowed["size"]


OPTIONS = sorted(f"{path.parent.name}/{path.stem}" for path in (ROOT / "conf").glob("*/*.yaml"))


@pytest.mark.parametrize("option", [option for option in OPTIONS if not option.startswith("experiment/")])
def test_every_option_says_what_it_is(option):
    explained = explain_option(option, read=lambda name: (ROOT / "conf" / f"{name}.yaml").read_text())
    assert explained.about
    assert explained.target.startswith("ttt.")
