"""1,797 handwritten digits of 8 x 8 pixels, as scikit-learn ships them.

        ░░██▓▓
        ████▓▓██░░
        ██    ▓▓░░
        ▓▓    ░░░░
      ░░░░    ▓▓░░
        ▓▓    ▓▓░░
        ██░░▓▓▓▓
        ░░██▓▓
    digit 0

A pixel is the number of dark ones among 4 x 4 finer pixels, 0 to 16. Provenance and licence:
tasks/data/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ttt.tasks.machinery.images import Images, Pictures, read_parquet

DATA = Path(__file__).parent / "data" / "digits.parquet"
SIDE, WHITE = 8, 16


@dataclass(kw_only=True, eq=False)
class Digits(Images):
    """Arguments are explained in conf/examples.yaml."""

    def pictures(self) -> Pictures:
        # The file keeps the order of writing: the last images of each class, its eval part, mostly
        # come from other writers than the train part.
        pixels_NYX, classes_N = read_parquet(DATA, side=SIDE)
        return Pictures(pixels_NYX, classes_N, WHITE)
