"""The options of ttt-compare that say how a picture looks."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ttt.cli.parser import check_word
from ttt.figures.look import Look

SIZE = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")
LOOKS = ("size", "font", "title", "log", "limits")


def add_looks(parser: argparse.ArgumentParser) -> None:
    """Add these options, and the one that asks for the picture."""
    add = parser.add_argument_group("pictures").add_argument
    add("--plot", type=Path, metavar="FILE",
        help="the same as a picture (.svg, .pdf, .png, .pgf), and its numbers beside it (.csv)")  # fmt: skip
    add("--size", metavar="3.3x2.4", help="width and height in inches")
    add("--font", type=float, metavar="POINTS", help="size of its letters")
    add("--title", metavar="TEXT", help="above it; a paper has its caption instead")
    add("--log", nargs="+", default=[], metavar="x|y", help="axes with a logarithmic scale")
    add("--limits", nargs="+", default=[], metavar="y=0:4", help="ends of an axis")


def look_of(typed: argparse.Namespace) -> Look:
    """How the picture looks. Raises ValueError in the user's words."""
    shown = next((name for name in LOOKS if getattr(typed, name)), None)
    if shown and not typed.plot:
        raise ValueError(f"--{shown}: says how a picture looks, so it goes with --plot FILE")
    if typed.font is not None and not 3 <= typed.font <= 40:
        raise ValueError(f"--font {typed.font:g}: must be between 3 and 40 points")
    for axis in typed.log:
        check_word("--log", axis, ("x", "y"))
    return Look(_size(typed.size), typed.font, typed.title or "", tuple(typed.log), limits_of(typed.limits))


def _size(typed: str | None) -> tuple[float, float] | None:
    if typed is None:
        return None
    match = SIZE.fullmatch(typed)
    width, height = (float(part) for part in match.groups()) if match else (0.0, 0.0)
    if not (1 <= width <= 40 and 1 <= height <= 40):
        raise ValueError(f"--size {typed}: must be WIDTHxHEIGHT in inches, between 1 and 40, like 3.3x2.4")
    return width, height


def limits_of(typed: Sequence[str]) -> dict[str, tuple[float, float]]:
    """axis -> its two ends."""
    limits = {}
    for text in typed:
        axis, _, ends = text.partition("=")
        try:
            low, high = map(float, ends.split(":"))
        except ValueError:
            low = high = 0.0
        if axis not in ("x", "y") or not low < high:
            raise ValueError(f"--limits {text}: must be an axis and its ends, the lower first, like y=0:4")
        limits[axis] = low, high
    return limits
