"""Small tables that users may have: news with topics, and sums with answers."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

TOPICS = {
    "Sports": ["match", "goal", "team", "coach", "league"],
    "World": ["minister", "border", "treaty", "election", "envoy"],
    "Business": ["market", "shares", "profit", "bank", "merger"],
    "Science": ["planet", "cell", "theory", "orbit", "fossil"],
}


def news(count: int = 80) -> list[dict[str, str]]:
    """Return rows of four topics in turn, each title different."""
    rng = random.Random(0)
    topics = list(TOPICS)
    return [
        {"title": f"{i}, " + " ".join(rng.choices(TOPICS[topics[i % 4]], k=1 + i % 5)), "topic": topics[i % 4]}
        for i in range(count)
    ]


def sums(count: int = 40) -> list[dict[str, str]]:
    """Return questions of two kinds with their answers, all different."""
    pairs = [(a, a * a % 17) for a in range(count // 2)]
    return [
        {"q": f"{a} {sign} {b} =", "a": str(a + b if sign == "+" else a - b), "kind": kind}
        for kind, sign in (("plus", "+"), ("minus", "-"))
        for a, b in pairs
    ]


def write_csv(path: Path, rows: list[dict[str, str]], *, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path
