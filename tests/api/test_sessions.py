"""`ttt.Sessions`: many texts from Python, as the command reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

import ttt
from ttt.api.opened import Run
from ttt.api.sessions import Sessions
from ttt.api.start import run
from ttt.config.messages import UsageError

TINY = ["task=split-sequence", "task.num_tasks=2", "task.steps_per_task=2", "task.seq_len=64", "task.batch_size=4",
        "base.steps=2", "model.layers=1", "model.width=16", "model.heads=2", "model.mlp_width=32", "model.window=8",
        "logger=none", "report=false"]  # fmt: skip
ANN, BOB = "All human beings are born free. " * 9, "Tous les êtres humains naissent libres. " * 5


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(*TINY, f"output_dir={tmp_path_factory.mktemp('runs')}", progress=False)


def test_sessions_side_by_side_are_as_each_alone(finished: Run) -> None:
    both = Sessions(finished, block=64).read({"ann": ANN, "bob": BOB})
    alone = [Sessions(finished.folder, block=64).read({name: text})[name] for name, text in (("a", ANN), ("b", BOB))]
    assert list(both.values()) == pytest.approx(alone, abs=1e-5)


def test_a_session_goes_on_from_a_folder(finished: Run, tmp_path: Path) -> None:
    sessions = Sessions(finished, block=64)
    sessions.read({"ann": ANN})
    expected = sessions.read({"ann": ANN})
    first = Sessions(finished, state=tmp_path / "s", block=64)
    first.read({"ann": ANN, "bob": BOB})
    first.save()
    again = Sessions(finished, state=tmp_path / "s", block=64)
    assert again.names == ["ann", "bob"]
    assert again.read({"ann": ANN}) == pytest.approx(expected, abs=1e-5)


def test_it_writes_on(finished: Run) -> None:
    texts = [Sessions(finished, block=64).generate("ann", ANN, tokens=12, temperature=1.0, seed=4) for _ in range(2)]
    assert texts[0] == texts[1]
    stop = next(letter for letter in texts[0] if letter.isascii())
    stopped = Sessions(finished, block=64).generate("ann", ANN, tokens=12, temperature=1.0, seed=4, stop=stop)
    assert stopped == texts[0][: texts[0].index(stop) + 1]


def test_what_cannot_be_is_a_usage_error(finished: Run, tmp_path: Path) -> None:
    sessions = Sessions(finished)
    sessions.read({"anna": ANN})
    with pytest.raises(UsageError, match="'ana': unknown; did you mean anna"):
        sessions.generate("ana")
    with pytest.raises(UsageError, match="top_p=2"):
        sessions.generate("anna", top_p=2.0, temperature=1.0)
    with pytest.raises(UsageError, match="needs a folder"):
        sessions.save()
    with pytest.raises(UsageError, match="block=0"):
        Sessions(finished, block=0)
    with pytest.raises(UsageError, match="no such folder"):
        Sessions(tmp_path / "nothing")
    Sessions(finished, state=tmp_path / "s", block=64).save()
    assert ttt.Sessions is Sessions
