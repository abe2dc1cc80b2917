"""Build `tasks/data/digits.parquet` from the scikit-learn wheel (1.9.1, BSD-3).

    pip download --no-deps scikit-learn==1.9.1
    python -m ttt.tasks.data.make_digits scikit_learn-1.9.1-*.whl tasks/data/digits.parquet

One row per image, in the order of the wheel: `pixels` (64 bytes, row by row, 0 to 16) and `label`.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MEMBER = "sklearn/datasets/data/digits.csv.gz"


def write_images(target: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Write images, a row of bytes each, with their labels."""
    images = pa.array([row.tobytes() for row in pixels], pa.binary(pixels.shape[1]))
    table = pa.table({"pixels": images, "label": pa.array(labels, pa.uint8())})
    # One row group with one page: zstd sees all images at once, which compresses best.
    pq.write_table(
        table,
        target,
        compression="zstd",
        compression_level=22,
        use_dictionary=False,
        row_group_size=len(pixels),
        data_page_size=1 << 24,
    )
    print(f"{len(pixels)} images, {target.stat().st_size} bytes")
    print(f"sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}  {target.name}")


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        text = gzip.decompress(wheel.read(MEMBER)).decode("ascii")
    # scikit-learn writes whole numbers as floats.
    rows = np.array([line.split(",") for line in text.splitlines()], dtype=np.float64).astype(np.uint8)
    write_images(Path(sys.argv[2]), rows[:, :-1], rows[:, -1])


if __name__ == "__main__":
    main()
