"""What the model writes behind an opening of each task: before the stream, learned, at the end."""

from __future__ import annotations

from typing import Any

from ttt.report.parts import Table, text_cell
from ttt.report.record import Record
from ttt.storage.content import Written
from ttt.storage.journal import read
from ttt.storage.run_folder import RunFolder


def written_table(record: Record) -> Table:
    """Return a row for each task and mode; it has no rows where nothing was sampled."""
    columns = {
        "task": "",
        "mode": "",
        "opening": "what it goes on from: the start of the task's first eval sequence",
        "before": "before the stream",
        "learned": "right after the task was learned",
        "end": "when it was written last",
    }
    by_row: dict[tuple[int, str], dict[int, dict[str, Any]]] = {}
    for line in read(RunFolder(record.folder).written, kind=Written):
        by_row.setdefault((line["task"], line["mode"]), {})[line["row"]] = line
    rows = []
    for (task, mode), lines in sorted(by_row.items()):
        first, last = lines[min(lines)], lines[max(lines)]
        # A run that is not done has no such row for the tasks that it has not reached.
        learned = lines.get(record.results.learned_at[task], {"text": "-"})
        texts = (first["opening"], first["text"], learned["text"], last["text"])
        rows.append([text_cell(first["task_name"]), text_cell(mode), *map(text_cell, texts)])
    caption = "The likeliest next tokens, with fast weights that are written meanwhile (fast) and without (slow)"
    return Table("written", caption, columns, rows)
