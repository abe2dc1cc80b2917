"""A picture in the size, letters and scales of a paper, as a file."""

from __future__ import annotations

import pytest
from matplotlib.text import Text

from ttt.figures.bands import Band, bands
from ttt.figures.dress import dress
from ttt.figures.look import Look
from ttt.figures.style import SUFFIXES, save_figure

LONG = "loss after the whole stream (fast), bits per token, and more words than an axis holds"


@pytest.fixture
def axes():
    line = Band("a method", [1, 2, 3], [2.0, 3.0, 4.0], [0.1, 0.1, 0.1])
    return bands([line, Band("another", [1, 2, 3], [3.0, 4.0, 5.0])], xlabel="tasks", ylabel=LONG)


def test_size_letters_title_and_ends(axes):
    dress(axes, Look(size=(3.3, 2.4), font=8, title="Languages", limits={"y": (0.0, 9.0)}))
    assert axes.figure.get_size_inches().tolist() == [3.3, 2.4]
    assert axes.get_title() == "Languages"
    assert axes.get_ylim() == (0.0, 9.0)
    (legend,) = axes.figure.legends
    shown = [*axes.findobj(Text), *legend.get_texts()]
    sizes = {round(text.get_fontsize(), 3) for text in shown if text.get_text()}
    assert sizes <= {8.0, 6.8}


def test_a_label_is_broken_where_it_is_longer_than_its_axis(axes):
    dress(axes, Look(size=(3.3, 2.4), font=8))
    label = axes.get_ylabel()
    assert label.replace("\n", " ") == LONG
    assert max(map(len, label.splitlines())) * 8 * 0.55 <= 2.4 * 72
    assert axes.get_xlabel() == "tasks"


def test_logarithmic_axes(axes):
    dress(axes, Look(log=["y"]))
    assert axes.get_yscale() == "log"
    with pytest.raises(ValueError, match=r"^--log y: .*-1"):
        dress(bands([Band("gain", [1, 2], [-1.0, 1.0])], xlabel="", ylabel=""), Look(log=["y"]))


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".pgf"])
def test_files_are_what_their_suffix_says(suffix, axes, tmp_path):
    file = tmp_path / f"picture{suffix}"
    save_figure(axes, file)
    assert {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}[suffix] == file.read_bytes()[
        : 4 + (suffix == ".svg")
    ]


def test_pgf_without_latex_is_refused_in_one_line(axes, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"picture\.pgf: needs xelatex") as refused:
        save_figure(axes, tmp_path / "picture.pgf")
    assert "\n" not in str(refused.value)
