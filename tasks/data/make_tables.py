"""Build `tasks/data/tables.parquet` from a wheel of scikit-learn (1.9.1, BSD-3-Clause).

    pip download --no-deps scikit-learn==1.9.1
    python -m ttt.tasks.data.make_tables scikit_learn-1.9.1-*.whl tasks/data/tables.parquet

One row per table: `name` and `text`, which is a heading, then the observations as CSV.
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

FOLDER = "sklearn/datasets/data"
DIABETES = "age,sex,bmi,bp,s1,s2,s3,s4,s5,s6,progression"
IRIS = "sepal length,sepal width,petal length,petal width,species"
WINE = (
    "alcohol,malic acid,ash,alcalinity of ash,magnesium,total phenols,flavanoids,nonflavanoid phenols,"
    "proanthocyanins,color intensity,hue,od280/od315 of diluted wines,proline,cultivar"
)
CELL = "radius,texture,perimeter,area,smoothness,compactness,concavity,concave points,symmetry,fractal dimension"
DIGITS = ",".join([f"pixel {row} {column}" for row in range(8) for column in range(8)] + ["digit"])


def read_tables(wheel: Path) -> dict[str, tuple[str, list[str]]]:
    """Read the heading and the observations of each table."""
    with zipfile.ZipFile(wheel) as package:

        def lines(name: str) -> list[str]:
            data = package.read(f"{FOLDER}/{name}")
            return (gzip.decompress(data) if name.endswith(".gz") else data).decode("ascii").splitlines()

        # Two files hold one table here: the progression of a patient stands apart.
        target = [str(int(float(line))) for line in lines("diabetes_target.csv.gz")]
        patients = [",".join(line.split()) for line in lines("diabetes_data_raw.csv.gz")]
        kinds = ("mean", "error", "worst")
        cells = ",".join(f"{kind} {feature}" for kind in kinds for feature in CELL.split(","))
        # The first line of a .csv only counts the observations.
        return {
            "breast_cancer": (f"{cells},benign", lines("breast_cancer.csv")[1:]),
            "diabetes": (DIABETES, [f"{line},{y}" for line, y in zip(patients, target, strict=True)]),
            "digits": (DIGITS, lines("digits.csv.gz")),
            "iris": (IRIS, lines("iris.csv")[1:]),
            "wine": (WINE, lines("wine_data.csv")[1:]),
        }


def main() -> None:
    wheel, target = Path(sys.argv[1]), Path(sys.argv[2])
    rng = np.random.default_rng(0)
    rows = []
    for name, (heading, lines) in read_tables(wheel).items():
        assert all(line.count(",") == heading.count(",") for line in lines), name
        # Some tables are sorted by class: their eval part, the end, would hold classes that their
        # train part lacks.
        shuffled = [lines[i] for i in rng.permutation(len(lines))]
        rows.append({"name": name, "text": "\n".join([heading, *shuffled]) + "\n"})
        print(f"{name}: {len(lines)} observations, {len(rows[-1]['text'])} bytes")
    pq.write_table(pa.Table.from_pylist(rows), target, compression="zstd", compression_level=19)
    print(f"sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}  {target.name}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
