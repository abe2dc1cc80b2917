"""Run folders of one number each, and ttt-compare in this process."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import yaml

from ttt.cli import compare as cli_compare
from ttt.results.results import Results
from ttt.results.saved import as_json
from ttt.results.scores import QUANTITIES


def write_run(
    folder: Path,
    *,
    seed: int,
    lr: float,
    value: float,
    adapter: str = "none",
    fingerprint: str = "a",
    base: str = "none",
) -> Path:
    """Write a finished run of one task in which every score is `value`, and return its folder.

    Runs of equal seed and `fingerprint` saw equal data.
    """
    folder = folder / f"{adapter}-{lr}" / f"seed{seed}"
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "task": {"name": "split-sequence"},
        "base": {"name": base, "seed": seed},
        "adapter": {"name": adapter},
        "optimizer": {"name": "adamw", "lr": lr},
        "logger": {"x": seed},
        "trainer": {"threads": seed, "precision": "32-true"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    results = Results(
        scenario="domain",
        tasks=["one task"],
        fingerprints=[fingerprint + str(seed)],
        learned_at=[1],
        entropy=[float("nan")],
        phases=1,
    )
    for _ in range(2):
        row = {mode: {quantity: [value] for quantity in QUANTITIES} for mode in ("slow", "fast")}
        results.add(columns=[0], scores=row, base=row)
    (folder / "results.json").write_text(json.dumps(as_json(results)))
    return folder


class Shown(NamedTuple):
    """What ttt-compare printed, and its exit code."""

    code: int
    out: str
    err: str


def compare(*args: object) -> Shown:
    """Type `ttt-compare ARGS`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["ttt-compare", *map(str, args)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli_compare.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Shown(code, out.getvalue(), err.getvalue())


def cells(*args: object) -> list[dict[str, Any]]:
    """The cells that `--format json` prints, one for each row and column."""
    shown = compare(*args, "--format", "json")
    assert shown.code == 0, shown.err
    content: list[dict[str, Any]] = json.loads(shown.out)["cells"]
    return content


def refusal(*args: object) -> str:
    """The one line with which ttt-compare refuses ARGS."""
    shown = compare(*args)
    assert shown.code == 2, shown
    assert shown.err.count("\n") == 1
    return shown.err
