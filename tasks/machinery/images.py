"""Images as tokens, one for each patch, or as vectors of all pixels, from 0 (black) to 1.

    levels 4, patch 2      0 1 | 3 3      the first token is the number 0123 in base 4 = 27
                           2 3 | 3 0      the next is 3330 in base 4 = 252

    shown with two characters a pixel:             ░░████
                                               ▓▓██

Shapes: N images, Y X pixels, L patches of an image, P pixels of a patch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from ttt.stream import Ints
from ttt.tasks.machinery.examples import Examples, Labelled

# A larger vocabulary would make the embeddings, not the model, the largest part of a small run.
MAX_SYMBOLS = 4096
# Columns of a terminal, and what stands between two images.
SCREEN, GAP = 80, "  "
SHADES = " ░▒▓█"
NO_PIXEL = "??"
Bytes = NDArray[np.uint8]


class Pictures(NamedTuple):
    """Grey images of equal size from 0 to `white`, and their classes.

    `is_eval_N`: which images are the eval part; None for the last ones of each class.
    """

    pixels_NYX: Bytes
    classes_N: Ints
    white: int
    is_eval_N: NDArray[np.bool_] | None = None


@dataclass(kw_only=True, eq=False)
class Images(Examples):
    """Square images of the ten digits. Arguments are explained in conf/examples.yaml."""

    patch: Annotated[int, Ge(1)]
    levels: Annotated[int, Ge(2)]
    read_as: Literal["tokens", "vectors"]
    pad: Annotated[int, Interval(ge=0, le=32)]
    standardise: bool

    @abstractmethod
    def pictures(self) -> Pictures:
        """Return all images. Raises ValueError in the user's words."""

    def read(self) -> Labelled:
        pictures = self.pictures()
        self._side = pictures.pixels_NYX.shape[1]
        names = [f"digit {digit}" for digit in range(10)]
        if self.read_as == "vectors":
            return Labelled(self._vectors(pictures), pictures.classes_N, names, 0, pictures.is_eval_N)
        check_patches(self._side, patch=self.patch, levels=self.levels)
        # Bins of equal width; a table, because there are far more pixels than values.
        level_of = (np.arange(pictures.white + 1) * self.levels // (pictures.white + 1)).astype(np.uint16)
        return Labelled(
            tokens_NL=patches(level_of[pictures.pixels_NYX], patch=self.patch, levels=self.levels),
            classes_N=pictures.classes_N,
            class_names=names,
            num_symbols=self.levels ** (self.patch * self.patch),
            is_eval_N=pictures.is_eval_N,
        )

    def _vectors(self, pictures: Pictures) -> NDArray[np.float32]:
        x_NYX = np.pad(pictures.pixels_NYX, ((0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        x_NX = x_NYX.reshape(len(x_NYX), -1).astype(np.float32) / pictures.white
        self._side += 2 * self.pad
        if self.standardise:
            # One mean and variance of all pixels, in float64: a float32 sum of millions is inexact.
            x_NX = (x_NX - x_NX.mean(dtype=np.float64)) / x_NX.std(dtype=np.float64)
        return x_NX.astype(np.float32)

    def show(self, tokens: Ints) -> str:
        """Return the images side by side, as many as the screen holds, each above its label."""
        period = self._length + 1
        if tokens.ndim == 2:
            # Standardised pixels have no fixed range: shades span what is there.
            low, high = float(tokens.min()), float(tokens.max())
            blocks = [self._lines((x_X - low) / (high - low) * (len(SHADES) - 1)) for x_X in tokens]
        else:
            blocks = [self._block(tokens[i : i + period]) for i in range(0, len(tokens), period)]
        across = max(1, (SCREEN + len(GAP)) // (2 * self._side + len(GAP)))
        bands = [blocks[i : i + across] for i in range(0, len(blocks), across)]
        return "\n\n".join("\n".join(GAP.join(line).rstrip() for line in zip(*band, strict=True)) for band in bands)

    def _lines(self, shades_X: NDArray[np.floating]) -> list[str]:
        # Two characters a pixel, because a character is twice as high as wide.
        grid = np.array([2 * SHADES[round(float(s))] for s in shades_X]).reshape(self._side, self._side)
        return ["".join(line) for line in grid]

    def _block(self, tokens: Ints) -> list[str]:
        """Return the lines of one example: missing patches are blank, a label shows as NO_PIXEL."""
        per_side = self._side // self.patch
        # The first pixel of a patch is its highest digit.
        weights_P = self.levels ** np.arange(self.patch * self.patch)[::-1]
        cells = np.full((self._length, self.patch * self.patch), "  ")
        for place, token in enumerate(tokens[: self._length]):
            shades = (token // weights_P % self.levels) * (len(SHADES) - 1) / (self.levels - 1)
            cells[place] = [2 * SHADES[round(s)] for s in shades] if token in self.symbols else NO_PIXEL
        # From patch after patch to line after line.
        grid = cells.reshape(per_side, per_side, self.patch, self.patch).transpose(0, 2, 1, 3)
        lines = ["".join(line) for line in grid.reshape(self._side, self._side)]
        labels = [self._names[t - self.labels.start] if t in self.labels else NO_PIXEL for t in tokens[self._length :]]
        return [*lines, "".join(labels).ljust(2 * self._side)]


def check_patches(side: int, *, patch: int, levels: int) -> None:
    """Check that images of side x side pixels can be cut into patches; raises ValueError if not."""
    if side % patch:
        allowed = ", ".join(str(p) for p in range(1, side + 1) if side % p == 0)
        raise ValueError(f"source.patch={patch}: must divide the side of {side} pixels: {allowed}")
    if levels ** (patch * patch) > MAX_SYMBOLS:
        raise ValueError(
            f"source.patch={patch} with source.levels={levels}: {levels ** (patch * patch)} different patches, "
            f"at most {MAX_SYMBOLS} are allowed; take fewer levels or a smaller patch"
        )


def patches(levels_NYX: NDArray[np.uint16], *, patch: int, levels: int) -> NDArray[np.uint16]:
    """Return images as tokens [N, L], patch after patch, row by row.

    A token is the number whose digits in base `levels` are the pixels of the patch, row by row.
    """
    count, side = levels_NYX.shape[0], levels_NYX.shape[1] // patch
    tiles = levels_NYX.reshape(count, side, patch, side, patch)
    # Horner's scheme, a pixel of all patches at a time.
    tokens = np.zeros((count, side, side), dtype=np.uint16)
    for y, x in np.ndindex(patch, patch):
        tokens = tokens * np.uint16(levels) + tiles[:, :, y, :, x]
    return tokens.reshape(count, side * side)


def read_parquet(path: Path, *, side: int) -> tuple[Bytes, Ints]:
    """Read pixels and classes of an embedded file, as tasks/data/make_digits.py writes it."""
    # Imported here: it takes time that `ttt-run --help` need not spend.
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return unpack(table["pixels"].to_pylist(), side=side), table["label"].to_numpy().astype(np.int64)


def unpack(rows: Iterable[bytes], *, side: int) -> Bytes:
    """Return rows of bytes as images [N, side, side]."""
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, side, side)
