"""Prepared data: made once, by the first process, and opened only if nothing changed since."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt.tasks.machinery import prepared as module
from ttt.tasks.machinery.documents import prepared_row, prepared_text
from ttt.tasks.machinery.prepared import prepared

# What each of two processes runs, which begin every round together. File locks do nothing there, as
# on some network drives.
RACE = """
import fcntl, sys, time
from pathlib import Path
fcntl.flock = fcntl.lockf = lambda *arguments: None
from ttt.tasks.machinery.prepared import prepared

cache, me, other, rounds = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
for number in range(rounds):
    (cache / f"{number}-{me}").touch()
    limit = time.monotonic() + 60
    while not (cache / f"{number}-{other}").exists():
        assert time.monotonic() < limit, "the other process is gone"
        time.sleep(0.0005)
    rows = [{"round": number, "text": "x" * i} for i in range(50)]
    data = prepared(str(cache), name="race", recipe={"round": number}, rows=lambda: iter(rows))
    assert data.to_pylist() == rows, number
"""


def numbers(cache, *, recipe=None, count=4):
    rows = [prepared_row(f"class {i}", i, "train", np.arange(i, dtype=np.uint8)) for i in range(count)]
    return prepared(str(cache), name="numbers", recipe=recipe or {"a": 1}, rows=lambda: rows)


def only_folder(cache) -> Path:
    """Return the only folder of prepared data, hidden ones included."""
    (folder,) = (cache / "data").iterdir()
    return folder


def test_rows_are_made_once(tmp_path):
    first = numbers(tmp_path)
    again = prepared(str(tmp_path), name="numbers", recipe={"a": 1}, rows=lambda: pytest.fail("made again"))
    assert first == again
    assert {path.name for path in only_folder(tmp_path).iterdir()} == {"data.arrow", "manifest.json"}
    manifest = json.loads((only_folder(tmp_path) / "manifest.json").read_text())
    assert manifest["rows"] == 4
    assert manifest["recipe"] == {"a": 1}


def test_another_recipe_is_another_folder(tmp_path):
    numbers(tmp_path)
    numbers(tmp_path, recipe={"a": 2}, count=5)
    assert len(list((tmp_path / "data").iterdir())) == 2


def test_a_name_is_no_path(tmp_path):
    prepared(str(tmp_path), name="../../outside", recipe={}, rows=lambda: [{"a": 1}])
    assert only_folder(tmp_path).name.startswith("-outside-")


# A batch for each row; all rows in one.
@pytest.mark.parametrize("batch_bytes", [1, 1 << 30])
def test_tokens_come_back_in_any_number_of_pieces(batch_bytes, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(module, "BATCH_BYTES", batch_bytes)
    lists = st.lists(st.integers(0, 65_000), max_size=20)

    @settings(max_examples=20, deadline=None)
    @given(st.lists(lists, min_size=1, max_size=6), st.sampled_from([np.uint8, np.uint16]))
    def check(contents, dtype):
        arrays = [np.array(content).astype(dtype) for content in contents]
        rows = [prepared_row(f"{i}", i, "train", array) for i, array in enumerate(arrays)]
        data = prepared(str(tmp_path_factory.mktemp("cache")), name="tokens", recipe={}, rows=lambda: rows)
        text = prepared_text(data)
        assert text.tokens.dtype == dtype
        assert text.names == [r["name"] for r in rows]
        for i, array in enumerate(arrays):
            assert (text.tokens[text.start[i] : text.end[i]] == array).all()
        assert text.end[-1] == sum(map(len, arrays))

    check()


def damage(folder: Path, what: str) -> str:
    """Damage a file and return its name."""
    data, manifest = folder / "data.arrow", folder / "manifest.json"
    content = bytearray(data.read_bytes())
    if what == "a flipped byte":
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif what == "cut short":
        data.write_bytes(content[:-8])
    elif what == "gone":
        data.unlink()
    elif what == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(what)
    return "data.arrow" if what in ("a flipped byte", "cut short", "gone") else "manifest.json"


@pytest.mark.parametrize(
    "what", ["a flipped byte", "cut short", "gone", "no manifest", "", "[]", '{"files": {"a": 1}}']
)
def test_damaged_data_is_not_opened(what, tmp_path):
    numbers(tmp_path)
    folder = only_folder(tmp_path)
    file = damage(folder, what)
    with pytest.raises(ValueError, match=f"^cache_dir={re.escape(str(tmp_path))}: ") as error:
        numbers(tmp_path)
    message = str(error.value)
    assert str(folder) in message
    assert "\n" not in message
    assert file in message or what.startswith("{")
    # Nothing of the user's is replaced or removed.
    assert list((tmp_path / "data").iterdir()) == [folder]


def test_a_failure_leaves_nothing_behind(tmp_path):
    def rows():
        yield {"a": 1}
        raise ValueError("the source is broken")

    with pytest.raises(ValueError, match="the source is broken"):
        prepared(str(tmp_path), name="broken", recipe={}, rows=rows)
    assert not list((tmp_path / "data").iterdir())


def test_a_cache_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^cache_dir=.*file: "):
        numbers(tmp_path / "file")


def test_whoever_comes_second_uses_what_is_there(tmp_path):
    """The other process is done while this process still prepares."""

    def rows():
        numbers(tmp_path)
        yield from [prepared_row("late", 0, "train", np.zeros(3, np.uint8))]

    data = prepared(str(tmp_path), name="numbers", recipe={"a": 1}, rows=rows)
    assert data["name"][0].as_py() == "class 0"
    only_folder(tmp_path)


def test_two_processes_prepare_at_once(tmp_path):
    rounds = 20
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    pair = [
        subprocess.Popen([*command, me, other, str(rounds)], stderr=subprocess.PIPE, text=True, env=environment)
        for me, other in ("ab", "ba")
    ]
    for process in pair:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    names = [path.name for path in (tmp_path / "data").iterdir()]
    assert len(names) == rounds
    assert not [name for name in names if name.startswith(".")]
