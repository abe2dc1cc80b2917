"""A run that is done is found again without being built, as long as code and data are the same."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness import TINY, only_run, run_here
from texts import prose

from ttt.cli.runs import one
from ttt.run import recall
from ttt.run.compose import compose_run
from ttt.storage.reads import watched_reads

PLAIN = (*TINY, "adapter=none")


def texts(folder):
    """Two classes of a source of text below `folder`."""
    for number, name in enumerate(("a", "b")):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.txt").write_text(prose(3000, seed=number))
    return folder


def reading(folder):
    """The words of a run on the texts in `folder`."""
    held = [word for word in PLAIN if not word.startswith(("source", "task.num", "task.held", "base"))]
    return [*held, "source=text", f"source.path={folder}", "task.num_tasks=2", "base=none"]


@pytest.fixture
def assembled(monkeypatch):
    """The configs that were assembled since."""
    configs, before = [], one.assemble
    monkeypatch.setattr(one, "assemble", lambda config, **rest: configs.append(config) or before(config, **rest))
    return configs


def test_a_run_that_is_done_is_shown_without_building_it(tmp_path, assembled):
    first = run_here(PLAIN, tmp_path)
    again = run_here([*PLAIN, "logger=csv", "report=true"], tmp_path)
    assert len(assembled) == 1
    assert first.out.partition("\nR: ")[2] == again.out.partition("\nR: ")[2] != ""


def test_it_takes_no_torch():
    loaded = "import sys, ttt.cli.run; print({'torch', 'datasets', 'matplotlib'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True) == "set()\n"


def test_data_that_changed_is_another_run(tmp_path, assembled):
    folder = texts(tmp_path / "texts")
    words = reading(folder)
    assert run_here(words, tmp_path).code == 0
    run_here(words, tmp_path)
    assert len(assembled) == 1
    # The same size: the time tells.
    text = (folder / "a" / "1.txt").read_text()
    (folder / "a" / "1.txt").write_text(text[::-1])
    assert "already done" not in run_here(words, tmp_path).out
    # A file more: the folder tells.
    (folder / "b" / "2.txt").write_text(prose(300, seed=9))
    assert "already done" not in run_here(words, tmp_path).out
    assert len(assembled) == 3
    assert len(list(tmp_path.glob("outputs/*/*/*/status.json"))) == 3


def test_other_code_and_a_folder_that_is_gone_are_looked_at_again(tmp_path, assembled, monkeypatch):
    run_here(PLAIN, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(recall, "CODE", "other")
        assert "already done" in run_here(PLAIN, tmp_path).out
    assert len(assembled) == 2
    # The note of the other code does not count here.
    assert "already done" in run_here(PLAIN, tmp_path).out
    assert len(assembled) == 3
    only_run(tmp_path).rename(tmp_path / "elsewhere")
    assert "already done" not in run_here(PLAIN, tmp_path).out


def test_each_place_and_config_has_a_note_of_its_own(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    run_here(PLAIN, here)
    config = compose_run(PLAIN)
    place = {}
    for folder in (here, there):
        monkeypatch.chdir(folder)
        place[folder] = recall.recall(config, trusted=[])
    assert place[here].folder.parts[0] == "outputs"
    assert place[there] is None
    monkeypatch.chdir(here)
    assert recall.recall(config | {"seed": 7}, trusted=[]) is None
    assert recall.recall(config | {"report": True}, trusted=[]) == place[here]
    assert recall.recall(config | {"output_dir": "other"}, trusted=[]) is None


def test_what_may_be_read_unseen_is_never_recalled(tmp_path):
    config = compose_run([*PLAIN, f"cache_dir={tmp_path}"])
    with watched_reads(cache=tmp_path) as reads, pytest.raises(ConnectionRefusedError), socket.socket() as client:
        client.connect(("127.0.0.1", 9))
    place = recall.Place(Path("outputs"), "code")
    recall.remember(config, place, reads=reads, trusted=[])
    assert recall.recall(config, trusted=[]) is None
    with watched_reads(cache=tmp_path) as reads:
        pass
    mine = config | {"source": config["source"] | {"_target_": "mine.Source"}}
    recall.remember(mine, place, reads=reads, trusted=[])
    assert recall.recall(mine, trusted=[]) is None
    recall.remember(config, place, reads=reads, trusted=[])
    assert recall.recall(config, trusted=[]) == place
    assert recall.recall_done(config, trusted=[]) is None


def test_reads_are_files_and_folders_as_they_were_before(tmp_path):
    data, cache, made = tmp_path / "data", tmp_path / "cache", tmp_path / "made"
    for folder in (data, cache / "data" / "x"):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("a")
    with watched_reads(cache=cache) as reads:
        for folder in (data, cache / "data" / "x"):
            for path in folder.iterdir():
                path.read_bytes()
        made.write_text("written, not read")
        (data / "missing").exists()
        with pytest.raises(FileNotFoundError):
            (data / "missing").read_bytes()
        (data / "a.txt").write_text("longer")
    (data / "later.txt").write_text("b")
    (data / "later.txt").read_bytes()
    assert set(reads.stamps) == {str(data), str(data / "a.txt"), str(data / "missing")}
    assert reads.stamps[str(data / "missing")] is None
    assert reads.stamps[str(data / "a.txt")][0] == 1
    assert reads.cached == {"data/x"}
    assert not reads.asked_network
