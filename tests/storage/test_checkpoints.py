"""Checkpoints: whole or not there, and what is damaged or foreign never counts."""

from __future__ import annotations

import errno
import json
import os
from types import SimpleNamespace

import pytest
import torch

from ttt.results.rows import compact
from ttt.storage import checkpoint, files
from ttt.storage.checkpoint import Checkpoint, in_order, load, load_newest, name_after, save
from ttt.storage.files import check_space, remove_unfinished, replace_folder
from ttt.storage.history import NAME, History

TENSORS = {"slow": {"w": torch.arange(3.0)}, "fast": {}}


def row(number):
    scores = {"slow": {"loss": [float(number), float("nan")]}}
    return {"columns": [0, 1], "scores": scores, "base": None, "step": number, "current": None,
            "diagnostics": {}, "profile": None}  # fmt: skip


def point(step):
    return {"step": step, "columns": [0], "scores": {"slow": {"loss": [0.5]}}}


@pytest.fixture
def two(tmp_path):
    """A folder with an older and a newer checkpoint."""
    for number in (1, 2):
        save(tmp_path / name_after(number), Checkpoint(TENSORS, {"number": number}))
    return tmp_path


def test_checkpoints_inside_tasks_lie_between_those_of_rows(tmp_path):
    names = [name_after(3), name_after(3, step=120), name_after(3, step=1000), name_after(4), name_after(10000)]
    for name in [*names[::-1], "task-x", ".task-0009.77"]:
        (tmp_path / name).mkdir()
    assert [path.name for path in in_order(tmp_path)] == names
    assert sorted(names[:4]) == names[:4]


@pytest.mark.parametrize("content", ["{}", "[]", "7", "", "{", '{"state.json": 1}', '{"../x": "a", "state.json": "b"}',
                                     "[" * 100_000])  # fmt: skip
def test_a_foreign_manifest_is_passed_over(two, content):
    newest = two / name_after(2)
    (newest / "manifest.json").write_text(content)
    saved, complaints = load_newest(two)
    assert saved.state == {"number": 1}
    assert len(complaints) == 1
    assert str(newest) in complaints[0]


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "slow.safetensors"])
def test_a_missing_or_cut_file_is_noticed(two, name):
    file = two / name_after(2) / name
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ValueError, match=name.split(".")[0]):
        load(two / name_after(2))
    file.unlink()
    assert load_newest(two)[0].state == {"number": 1}


def test_stray_files_are_not_read(two):
    (two / name_after(2) / "other.safetensors").write_bytes(b"x")
    assert load(two / name_after(2)).tensors.keys() == TENSORS.keys()


def test_a_save_that_fails_leaves_the_old_one_and_nothing_else(two, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "write_new", full)
    with pytest.raises(OSError, match="space"):
        save(two / name_after(2), Checkpoint(TENSORS, {"number": 3}))
    assert load(two / name_after(2)).state == {"number": 2}
    assert len(list(two.iterdir())) == 2


def test_what_killed_writers_left_is_removed_and_a_folder_that_was_being_replaced_comes_back(two, monkeypatch):
    (two / ".task-0003.123").mkdir()
    (two / ".status.json.77").write_text("{")
    (two / ".keep").write_text("a user's")
    part = two / ".task-0002.1"
    part.mkdir()
    # Killed between the two renames: the new one has no name yet, the old one none any more.
    replace, calls = type(part).replace, []

    def dying(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(type(part), "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(part, two / name_after(2))
    monkeypatch.undo()
    remove_unfinished(two)
    assert sorted(path.name for path in two.iterdir()) == [".keep", name_after(1), name_after(2)]
    assert load(two / name_after(2)).state == {"number": 2}


def test_history_is_appended_and_each_checkpoint_reads_its_own_part(tmp_path):
    history = History(tmp_path)
    rows, points = [row(0)], []
    for number in range(3):
        if number:
            points.append(point(number))
            rows.append(row(number))
        save(tmp_path / name_after(number), Checkpoint({}, {"history": history.extend(rows, points)}))
    for number in range(3):
        state = load(tmp_path / name_after(number)).state
        assert len(state["rows"]) == number + 1
        assert state["rows"][number]["scores"]["slow"]["loss"] == [number, None]
        assert state["points"] == compact(points[:number])
    # A run that goes on from the checkpoint before the last one, in a new process.
    size = (tmp_path / NAME).stat().st_size
    mark = History(tmp_path).extend(rows[:2], points[:1])
    assert mark["bytes"] < size
    assert load(tmp_path / name_after(1)).state["rows"] == load(tmp_path / name_after(0)).state["rows"] + [
        json.loads(json.dumps(row(1)).replace("NaN", "null"))
    ]
    with pytest.raises(ValueError, match=NAME):
        load(tmp_path / name_after(2))


def test_a_disk_that_is_too_small_is_noticed_before_it_is_full(tmp_path, monkeypatch):
    check_space(tmp_path / "not" / "there", 10, what="a base")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=5))
    with pytest.raises(OSError, match="a base") as stop:
        check_space(tmp_path / "not" / "there", 10, what="a base")
    assert stop.value.errno == errno.ENOSPC


def test_the_files_of_a_checkpoint_are_for_the_same_readers(tmp_path):
    save(tmp_path / "task-0000", Checkpoint({"slow": {"w": torch.ones(2)}}, {}))
    assert len({file.stat().st_mode for file in (tmp_path / "task-0000").iterdir()}) == 1
