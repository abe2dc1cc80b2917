"""The page of one run. Read `content` from top to bottom: it is the page's table of contents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ttt.report import inside, page, tables
from ttt.report.curves import pictures
from ttt.report.heatmap import heats
from ttt.report.record import Record, read
from ttt.report.text import MODES, clean, command, sentence
from ttt.results.tuning import obeys_continual_rule
from ttt.storage.files import write_bytes


class Status(NamedTuple):
    """`kind` decides its colour, `alert` says what is wrong."""

    kind: str
    word: str
    time: str
    alert: str


def write_run(folder: Path, *, to: Path | None = None) -> Path:
    """Write report.html and plots/ into the run's folder, or the page `to` another file with plots/ beside it.

    Returns the page's path. Raises ValueError in one line for a folder that is no run.
    """
    record = read(folder)
    file = to or folder / "report.html"
    found = content(record)
    svgs = {picture.name: str(picture.svg) for picture in (*found["pictures"], *found["plasticity"])}
    svgs |= {heat.name: page.heat_svg(heat) for maps in found["heats"].values() for heat in maps}
    page.write_plots(file.parent / "plots", svgs)
    write_bytes(file, page.render("run.html", found).encode())
    return file


def content(record: Record) -> dict[str, Any]:
    """What run.html shows."""
    config, results = record.config, record.results
    names = [config[group].get("name", group) for group in ("adapter", "strategy", "optimizer")]
    typed = command(record.environment)
    return {
        "title": clean(f"{config['task'].get('name', 'task')}: {'-'.join(names)}, seed {config['seed']}"),
        "sentence": sentence(config, tasks=len(results.tasks), scenario=results.scenario),
        "status": status(record),
        "run_id": clean(record.folder.resolve().name),
        "command": typed,
        "is_sweep": any(word in ("-m", "--multirun") for word in record.environment.get("command") or ()),
        "config_text": clean(record.config_text),
        "complete": record.complete,
        "has_fast": record.has_fast,
        "main_mode": record.main_mode,
        "main_meaning": MODES[record.results.used][record.main_mode],
        "big": tables.big_numbers(record),
        "headline": tables.headline(record) if record.seen.tasks else [],
        "search": search(config),
        "heats": heats(record) if results.rows else {},
        "tasks": tables.per_task(record),
        "pictures": [*inside.anytime(record), *pictures(record)],
        "plasticity": list(inside.plasticity(record)),
        "samples": samples(record),
        "costs": tables.costs(record),
        "environment": tables.environment(record),
        "fingerprints": tables.fingerprints(record),
    }


def status(record: Record) -> Status:
    word = str(record.status.get("status", "unknown"))
    reason, rows = str(record.status.get("reason", "")), len(record.results.rows)
    when = clean(str(record.status.get("time", ""))).replace("T", " ")
    if word == "done" and record.complete:
        return Status("done", word, when, "")
    kind = "failed" if word == "failed" else "other"
    learned = f"{rows - 1} phases were learned by then" if rows else "nothing by then"
    why = f": {reason}" if reason else ""
    alert = f"This run is not done ({word}{why}). The page shows what was measured: {learned}."
    return Status(kind, word, when, clean(alert))


def search(config: Mapping[str, Any]) -> str:
    """What to declare where a search was for more than the task at hand can tell; else nothing."""
    objective = str((config.get("sweep") or {}).get("objective", ""))
    if not objective or obeys_continual_rule(objective):
        return ""
    return clean(
        f"sweep.objective={objective} breaks the rule of continual learning: the current task alone does not tell it. "
        "Hyper-parameters that a search chose by it have seen earlier or later tasks."
    )


def samples(record: Record) -> list[dict[str, str]] | None:
    if record.samples is None:
        return None
    return [{key: clean(str(sample[key])) for key in ("task", "text")} for sample in record.samples]
