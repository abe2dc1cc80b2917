"""What source=csv refuses, in one line that begins with what was typed or names the file."""

from __future__ import annotations

import re

import pytest
from sources import build_source
from tables import news, write_csv, write_jsonl

NEWS = {"text": "title", "label": "topic"}


def write_refused(folder):
    write_csv(folder / "news.csv", news())
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("title,topic\n")
    (folder / "latin.csv").write_bytes("title,topic\ncafé,x\n".encode("latin-1"))
    (folder / "wide.csv").write_text("title,topic\na,b,c\n")
    (folder / "broken.jsonl").write_text('{"title": "a", "topic": "b"}\n{"title": \n')
    (folder / "lists.jsonl").write_text('{"title": ["a"], "topic": "b"}\n')
    (folder / "blank.jsonl").write_text('{"title": "a", "topic": ""}\n{"title": "b", "topic": null}\n')
    (folder / "one.csv").write_text("title,topic\na,b\nc,d\n")
    write_jsonl(folder / "many.jsonl", [{"title": f"{i}", "topic": f"{i}"} for i in range(1001)])
    (folder / "nothing").mkdir()
    for name in ("a/1.txt", "b/2.pm"):
        (folder / "partly" / name).parent.mkdir(parents=True)
        (folder / "partly" / name).write_text("a line\n")
    return folder


# What is typed, what the refusal begins with, and what it names besides.
REFUSED = [
    ({"path": None}, "source.path=null", "a file"),
    ({"path": "nowhere.csv"}, "source.path=", "no such file"),
    ({"path": "nws.csv"}, "source.path=", "news.csv?"),
    ({"path": "nothing"}, "source.path=", "holds no such file"),
    ({"path": "partly", "text": "text", "label": None}, "source.path=", "b holds no such file (but 2.pm)"),
    ({"path": "empty.csv"}, "source.path=", "no rows"),
    ({"path": "header.csv"}, "source.path=", "no rows"),
    ({"path": "latin.csv"}, "", "latin.csv: is not UTF-8 (byte 0xe9)"),
    ({"path": "wide.csv"}, "", "wide.csv: line 2"),
    ({"path": "broken.jsonl"}, "", "broken.jsonl: line 2"),
    ({"path": "lists.jsonl"}, "source.text=title", "list"),
    ({"path": "blank.jsonl"}, "source.label=topic", "no row"),
    ({"path": "one.csv"}, "source.eval_share=0.2", "'b'"),
    ({"path": "many.jsonl"}, "source.label=topic", "1001 different classes, 1000"),
    ({"label": "topics"}, "source.label=topics", "did you mean topic?"),
    ({"text": "qqqqq"}, "source.text=qqqqq", "title, topic"),
    ({"text": None, "label": None}, "no column is named", "title, topic"),
    ({"text": None}, "source.label=topic", "source.prompt=COLUMN"),
    ({"prompt": "title"}, "source.text=title source.label=topic source.prompt=title", "title, topic"),
    ({"chat": True}, "source.chat=true", "source.chat=auto"),
    ({"tokenizer": "model"}, "source.tokenizer=model", "bytes"),
]


@pytest.mark.parametrize(("changes", "begins", "names"), REFUSED)
def test_refused_in_one_line(changes, begins, names, tmp_path):
    folder = write_refused(tmp_path)
    changes = NEWS | changes
    path = changes.pop("path", "news.csv")
    with pytest.raises(ValueError, match=re.escape(names)) as refused:
        build_source("source=csv", "model=nano", path=path and str(folder / path), **changes)
    message = str(refused.value)
    assert message.startswith(begins)
    assert "\n" not in message
