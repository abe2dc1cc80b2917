"""Values of wrong kinds in the files of a run: the file and the place are named."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from fake_runs import make_run

from ttt.config.kinds import mismatch
from ttt.report.record import read_record
from ttt.results.events import Trained
from ttt.results.rows import Row
from ttt.storage.content import Written
from ttt.storage.journal import read, whole_records
from ttt.storage.run_folder import RunFolder

ROW = {"columns": [0], "scores": {"slow": {"loss": [1.5]}}, "base": None, "step": 1, "current": 0, "diagnostics": {},
       "profile": [[None, 1.0]]}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "hint", "place"),
    [
        (3, int, ""),
        (True, int, "integer"),
        (3, float, ""),
        (None, float, ""),
        ("3", float, "number"),
        (None, int | None, ""),
        ([], int | None, "integer"),
        ([1, None, 2.5], list[float], ""),
        ([1, "x"], list[float], "[1] must be a number"),
        ({"a": {"b": []}}, dict[str, dict[str, int]], "a.b must be an integer"),
        ({"a": []}, dict[str, dict[str, int]], "a must be an object"),
        ([ROW], list[Row], ""),
        ([ROW, ROW | {"columns": {}}], list[Row], "[1].columns must be a list"),
        ([ROW | {"known_sets": {"old": 3}}], list[Row], "[0].known_sets.old must be an object"),
        ([{key: ROW[key] for key in ROW if key != "base"}], list[Row], "[0] has no base"),
        ({"task": 1}, Trained, "has no task_name"),
    ],
)
def test_the_first_place_of_another_kind_is_named(content, hint, place):
    fault = mismatch(content, hint)
    assert (place in fault) if place else (fault == "")


def put(file, keys, value):
    """Put a value where `keys` lead in a JSON or YAML file, or in the first line of a journal."""
    load, dump = (yaml.safe_load, yaml.safe_dump) if file.suffix == ".yaml" else (json.loads, json.dumps)
    first, *rest = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    content = load(first)
    *above, last = keys
    holder = content
    for key in above:
        holder = holder[key]
    holder[last] = value
    file.write_text("\n".join([dump(content), *rest]) + "\n" * (file.suffix == ".jsonl"))


WRONG = [
    ("environment.json", ["data", "rows"], [3], "data.rows"),
    ("environment.json", ["command"], {"a": 1}, "command"),
    ("environment.json", ["versions", "torch"], None, "versions.torch"),
    ("status.json", ["seconds"], "long", "seconds"),
    ("status.json", ["reason"], [], "reason"),
    ("config.yaml", ["adapter"], ["none"], "adapter"),
    ("config.yaml", ["seed"], "x", "seed"),
    ("samples.json", [0], True, "[0]"),
    ("metrics.jsonl", ["step"], "x", "line 1 step"),
    ("metrics.jsonl", ["event"], 3, "line 1"),
    ("results.json", ["tasks", 1], 3, "tasks[1]"),
    ("results.json", ["rows", 1, "scores", "slow"], 3, "rows[1].scores.slow"),
    ("results.json", ["rows", 1, "columns"], [], "rows[1]"),
    ("results.json", ["rows", 0, "columns", 0], 99, "rows[0]"),
    ("results.json", ["learned_at", 0], 10**30, "too large"),
    ("results.json", ["entropy"], [None], "entropy"),
]


@pytest.mark.parametrize(("name", "keys", "value", "place"), WRONG)
def test_a_page_is_refused_with_the_file_and_the_place(name, keys, value, place, tmp_path):
    run = make_run(tmp_path)
    put(run / name, keys, value)
    with pytest.raises(ValueError, match=re.escape(place)) as refusal:
        read_record(run)
    assert str(run / name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_damaged_lines_of_what_was_written_are_left_out(tmp_path):
    file = tmp_path / "samples.jsonl"
    line = {"row": 0, "task": 0, "task_name": "eng", "mode": "fast", "opening": "a", "text": "b"}
    lines = [line, line | {"task": [1]}, {"row": 3}, line | {"row": 1}]
    file.write_text("".join(json.dumps(each) + "\n" for each in lines) + '{"row"')
    assert whole_records(file, kind=Written) == [line, line | {"row": 1}]
    with pytest.raises(ValueError, match="line 2 task must be an integer"):
        read(file, kind=Written)
    assert whole_records(tmp_path / "none.jsonl", kind=Written) == []


def test_a_run_typed_again_writes_anew_what_holds_wrong_kinds(tmp_path):
    run = make_run(tmp_path)
    assert RunFolder(run).is_done()
    for name, keys, value, _ in WRONG[:8]:
        before = (run / name).read_bytes()
        put(run / name, keys, value)
        assert not RunFolder(run).is_done(), name
        (run / name).write_bytes(before)
