"""Files of every kind and the hub: the same text from all, and one line without a network."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from pathlib import Path

import pytest
from sources import build_source
from texts import parts_of, prose

from ttt.tasks.machinery.hub import work_offline

ROWS = [{"text": prose(20, seed=i), "label": i % 3, "topic": ["sun", "moon"][i % 2]} for i in range(240)]


def build(cache, path, **changes):
    return build_source("source=hf", path=path and str(path), cache_dir=str(cache), **changes)


def write(path, rows=ROWS):
    import datasets

    if path.suffix == ".txt":
        path.write_text("".join(row["text"] for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".csv":
        datasets.Dataset.from_list(rows).to_csv(path, index=False)
    else:
        datasets.Dataset.from_list(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "csv", "txt"])
def test_files_of_every_kind_hold_the_same_text(kind, tmp_path):
    source = build(tmp_path / "cache", write(tmp_path / f"rows.{kind}"))
    assert source.class_name(0) == "rows"
    train, (run,) = parts_of(source)[0]
    text = train.tobytes().decode() + run.tobytes().decode()
    if kind == "txt":
        # A row is a line there, without the line break at its end.
        assert text == "".join(row["text"] for row in ROWS).rstrip("\n")
    else:
        assert text == "\n".join(row["text"] for row in ROWS)


def test_a_column_names_the_class(tmp_path):
    path = write(tmp_path / "rows.parquet")
    by_topic = build(tmp_path / "cache", path, class_column="topic")
    assert [by_topic.class_name(c) for c in range(2)] == ["sun", "moon"]
    by_label = build(tmp_path / "cache", path, class_column="label")
    assert [by_label.class_name(c) for c in range(3)] == ["0", "1", "2"]
    assert by_label.rows["train tokens"] == pytest.approx(by_topic.rows["train tokens"], rel=0.01)


def test_labels_have_the_names_that_their_feature_gives_them(tmp_path):
    import datasets

    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["x", "y", "z"]))
    rows = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    source = build(tmp_path / "cache", tmp_path / "rows.parquet", class_column="label")
    assert [source.class_name(c) for c in range(3)] == ["x", "y", "z"]


def test_a_folder_of_files_and_its_first_rows(tmp_path):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "0.jsonl", ROWS[:120])
    write(tmp_path / "parts" / "1.jsonl", ROWS[120:])
    whole = build(tmp_path / "cache", write(tmp_path / "rows.jsonl"), class_column="topic")
    parts = build(tmp_path / "cache", tmp_path / "parts", class_column="topic")
    assert parts.fingerprint == whole.fingerprint
    first = build(tmp_path / "cache", tmp_path / "parts", class_column="topic", max_rows=120)
    assert first.rows["train tokens"] == pytest.approx(whole.rows["train tokens"] / 2, rel=0.1)


def test_rows_without_text_are_counted(tmp_path):
    path = write(tmp_path / "rows.jsonl", [*ROWS, {"text": None, "label": 0, "topic": "sun"}])
    assert build(tmp_path / "cache", path).rows["documents left out"] == 1


# What is typed, and what the refusal names besides that.
REFUSED = [
    ({"path": None}, ""),
    ({"path": "FOLDER/missing.csv"}, "no such file"),
    ({"path": "./missing"}, "no such file"),
    ({"path": "FOLDER/rows.zip"}, ".parquet"),
    ({"path": "FOLDER/mixed"}, ".csv, .jsonl"),
    ({"path": "FOLDER/cache"}, ".parquet"),
    ({"path": "FOLDER/broken.parquet"}, ""),
    ({"path": "FOLDER/broken.json"}, ""),
    ({"text_column": "txt"}, "did you mean text?"),
    ({"class_column": "labels"}, "did you mean label?"),
    ({"class_column": "qqqq"}, "text, label, topic"),
    ({"path": "FOLDER/lists.jsonl"}, "list"),
    ({"split": "test"}, ""),
    ({"max_rows": 0}, "1"),
    ({"max_rows": 1}, "2000"),
]
# A refusal begins with the argument at fault, which is not always the one that was changed.
BLAMED = {"FOLDER/lists.jsonl": "source.text_column=text", 1: "source.path=FOLDER/rows.csv"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that can be read, and some that cannot."""
    path = tmp_path_factory.mktemp("files")
    for name in ("mixed", "cache"):
        (path / name).mkdir()
    for name in ("rows.csv", "mixed/a.csv", "mixed/b.jsonl"):
        write(path / name)
    for name in ("rows.zip", "broken.parquet", "broken.json"):
        (path / name).write_text('{"text": ')
    (path / "lists.jsonl").write_text(json.dumps({"text": ["a", "b"]}))
    return path


@pytest.mark.parametrize(("changes", "names"), REFUSED)
def test_files_that_do_not_fit_are_refused(changes, names, folder, tmp_path, capfd):
    ((argument, value),) = changes.items()
    begins = BLAMED.get(value, f"source.{argument}={'null' if value is None else value}")
    begins = begins.replace("FOLDER", str(folder))
    typed = {"path": "FOLDER/rows.csv"} | changes
    typed["path"] = typed["path"] and typed["path"].replace("FOLDER", str(folder))
    with pytest.raises(ValueError, match="^" + re.escape(begins) + ": ") as error:
        build(tmp_path, **typed)
    assert names in str(error.value).removeprefix(begins)
    assert "\n" not in str(error.value)
    # Nothing else is said on the way.
    assert capfd.readouterr() == ("", "")


# Without a network the user must read what to type instead.
OFFLINE = r"^source\.path={}/data: .* source=text source\.path=FOLDER, or source=languages\|code\|prose\|tables$"


def test_offline_on_purpose(tmp_path):
    with pytest.raises(ValueError, match=OFFLINE.format("some")) as error:
        build(tmp_path, "some/data")
    assert "\n" not in str(error.value)


def test_a_hub_that_does_not_answer_is_given_up_at_once(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert work_offline() is False
    # Nobody listens there any more.
    start = time.perf_counter()
    with pytest.raises(ValueError, match=OFFLINE.format("some")):
        build(tmp_path, "some/data")
    assert time.perf_counter() - start < 3


@pytest.fixture
def downloaded(tmp_path):
    """A dataset `own/data` in the cache of `datasets`, as an earlier download leaves it."""
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE)
    datasets.disable_progress_bars()
    files = str(write(tmp_path / "data.jsonl"))
    datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "made"))
    (info,) = (tmp_path / "made" / "json").glob("*/*/*/dataset_info.json")
    there = cache / "own___data" / "default" / "0.0.0" / "0123456789abcdef"
    shutil.copytree(info.parent, there)
    (there / "json-train.arrow").rename(there / "data-train.arrow")
    yield cache / "own___data"
    shutil.rmtree(cache / "own___data", ignore_errors=True)


def test_downloads_are_found_and_prepared_data_need_no_network(downloaded, tmp_path, capfd):
    first = build(tmp_path / "cache", "own/data", class_column="topic")
    assert [first.class_name(c) for c in range(2)] == ["sun", "moon"]
    with pytest.raises(ValueError, match=r"^source\.split=test: "):
        build(tmp_path / "cache", "own/data", split="test")
    shutil.rmtree(downloaded)
    again = build(tmp_path / "cache", "own/data", class_column="topic")
    assert again.fingerprint == first.fingerprint
    with pytest.raises(ValueError, match=OFFLINE.format("own")):
        build(tmp_path / "cache", "own/data", class_column="label")
    assert capfd.readouterr().err == ""
