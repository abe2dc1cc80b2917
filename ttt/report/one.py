"""The page of one run. `run_content`, from top to bottom, is the page's table of contents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ttt.config.visible import visible
from ttt.report import inside, page, tables
from ttt.report.context import context_table
from ttt.report.curves import stream_pictures
from ttt.report.heatmap import heat_maps
from ttt.report.known import known_table
from ttt.report.record import Record, read_record
from ttt.report.samples import written_table
from ttt.report.text import command, run_sentence
from ttt.results.scores import MEANINGS
from ttt.results.tuning import obeys_continual_rule
from ttt.storage.files import write_bytes
from ttt.storage.run_folder import RunFolder


class Status(NamedTuple):
    """How the run ended: `kind` decides the colour, `alert` says what is wrong."""

    kind: str
    word: str
    time: str
    alert: str


def write_run(folder: Path, *, to: Path | None = None) -> Path:
    """Write a run's page to report.html in its folder, with plots/ beside it, or alone `to` a file.

    Returns the page's path. Raises ValueError in one line for a folder that is not a run.
    """
    record = read_record(folder)
    file = to or RunFolder(folder).report
    content = run_content(record)
    # The page holds its pictures; elsewhere a second page would share a folder of them.
    if to is None:
        svgs = {picture.name: str(picture.svg) for picture in (*content["pictures"], *content["plasticity"])}
        svgs |= {heat.name: page.heat_svg(heat) for maps in content["heats"].values() for heat in maps}
        page.write_plots(file.parent / "plots", svgs)
    # The page comes last: a page that exists has its pictures.
    write_bytes(file, page.render("run.html", content).encode())
    return file


def run_content(record: Record) -> dict[str, Any]:
    """Return what run.html shows."""
    config, results = record.config, record.results
    names = [config[group].get("name", group) for group in ("adapter", "strategy", "optimizer")]
    return {
        "title": visible(f"{config['task'].get('name', 'task')}: {'-'.join(names)}, seed {config['seed']}"),
        "sentence": run_sentence(config, tasks=len(results.tasks), scenario=results.scenario),
        "status": status(record),
        "run_id": visible(record.folder.resolve().name),
        "command": command(record.environment),
        # The command of a sweep starts many runs, of which this is one.
        "is_sweep": any(word in ("-m", "--multirun") for word in record.environment.get("command") or ()),
        "config_text": visible(record.config_text),
        "complete": record.complete,
        "has_fast": record.has_fast,
        "main_mode": record.main_mode,
        "main_meaning": MEANINGS[record.results.used][record.main_mode],
        "meanings": {mode: MEANINGS[record.results.used][mode] for mode in record.modes},
        "big": tables.big_numbers(record),
        # Every metric needs at least one learned task.
        "headline": tables.headline_tables(record) if record.seen.tasks else [],
        "search": search_warning(config),
        "heats": heat_maps(record) if results.rows else {},
        "tasks": tables.task_table(record),
        "known": known_table(record),
        "pictures": [*inside.anytime_pictures(record), *stream_pictures(record)],
        "plasticity": list(inside.plasticity_pictures(record)),
        "samples": printable_samples(record),
        "written": written_table(record),
        "context": context_table(record),
        "costs": tables.cost_table(record),
        "environment": tables.environment_table(record),
        "fingerprints": tables.fingerprint_table(record),
    }


def status(record: Record) -> Status:
    word = str(record.status.get("status", "unknown"))
    reason, rows = str(record.status.get("reason", "")), len(record.results.rows)
    when = visible(str(record.status.get("time", ""))).replace("T", " ")
    # Both are asked: the folder may have been copied while the run wrote it.
    if word == "done" and record.complete:
        return Status("done", word, when, "")
    kind = "failed" if word == "failed" else "other"
    learned = f"{rows - 1} phases were learned by then" if rows else "nothing by then"
    why = f": {reason}" if reason else ""
    alert = f"This run is not done ({word}{why}). The page shows what was measured: {learned}."
    return Status(kind, word, when, visible(alert))


def search_warning(config: Mapping[str, Any]) -> str:
    """Return what to declare if a search chose by more than the current task can tell, else ""."""
    objective = str((config.get("sweep") or {}).get("objective", ""))
    if not objective or obeys_continual_rule(objective):
        return ""
    return visible(
        f"sweep.objective={objective} breaks the rule of continual learning: the current task alone does not tell it. "
        "Hyper-parameters that a search chose by it have seen earlier or later tasks."
    )


def printable_samples(record: Record) -> list[dict[str, str]] | None:
    if record.samples is None:
        return None
    return [{key: visible(str(sample[key])) for key in ("task", "text")} for sample in record.samples]
