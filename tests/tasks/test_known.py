"""What a model may know before a stream: the shipped items, rows of unequal length, texts, files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest
import torch
from assembling import last_of, refusal_of, without
from harness import SMALL
from sources import build_source, shared_source

from ttt.stream import IGNORE
from ttt.tasks.corpora import Corpora
from ttt.tasks.known import FILE, Item, option_rows, padded_rows, read_items, read_known, windows

TEXT = ("source=prose", "task=stationary", "adapter=none", "base=none")
ITEMS = [
    Item("The capital of France is", ["Rome", "Paris", "Bern"], 1),
    Item("2 + 2 =", ["4", "five"], 0),
    Item("é", ["ü", "ß"], 1),
]


def test_the_shipped_items_are_sound_and_give_nothing_away():
    items = read_items(FILE)
    assert len(items) == len({item.prompt for item in items}) == 120
    assert {len(set(item.options)) for item in items} == {4}
    # Neither a place nor the length of an option tells which one is right.
    assert set(Counter(item.answer for item in items).values()) == {30}
    longest = [max(range(4), key=lambda k: len(item.options[k])) == item.answer for item in items]
    shortest = [min(range(4), key=lambda k: len(item.options[k])) == item.answer for item in items]
    assert sum(longest) < 45
    assert sum(shortest) < 55
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() in (FILE.parent / "README.md").read_text()


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe-400"])
def test_every_option_is_scored_behind_its_prompt(tokenizer):
    source = shared_source("source=prose", f"source.tokenizer={tokenizer}")
    items = option_rows(ITEMS, source=source)
    assert items.options == [3, 2, 2]
    assert items.answers == [1, 0, 1]
    assert items.bytes_R.tolist() == [4, 5, 4, 1, 4, 2, 2]
    pairs = [(item.prompt, option) for item in ITEMS for option in item.options]
    for k, (prompt, option) in enumerate(pairs):
        tokens, targets, segment = (x[k] for x in items.rows[:3])
        length = int((segment == 0).sum())
        assert segment.tolist() == [0] * length + [-1] * (len(segment) - length)
        assert (targets[length:] == IGNORE).all()
        scored = targets[targets != IGNORE]
        # The last token is a target only.
        whole = torch.cat([tokens[:length], scored[-1:]]).numpy()
        assert source._coder.decode(whole) == f"{prompt} {option}"
        assert source._coder.decode(scored.numpy()).strip() == option
        assert torch.equal(scored[:-1], tokens[length - len(scored) + 1 : length])


def test_rows_end_where_their_sequence_ends():
    rows = padded_rows([torch.arange(1, 5).numpy(), torch.arange(7, 9).numpy()], scored=[1, 1])
    assert rows.tokens_BT.tolist() == [[1, 2, 3], [7, 0, 0]]
    assert rows.targets_BT.tolist() == [[2, 3, 4], [8, IGNORE, IGNORE]]
    assert rows.segment_BT.tolist() == [[0, 0, 0], [0, -1, -1]]


def test_windows_lie_apart_and_a_short_text_gives_shorter_rows():
    source = shared_source("source=prose")
    text = "".join(f"line {n}\n" for n in range(100, 200))
    rows = windows(text, source=source, rows=4, length=50)
    begins = [source._coder.decode(row[:9].numpy()) for row in rows.tokens_BT]
    assert begins == [f"line {n}\n" for n in (100, 125, 150, 175)]
    assert (rows.segment_BT == 0).all()
    assert torch.equal(rows.targets_BT[:, :-1], rows.tokens_BT[:, 1:])
    short = windows(text, source=source, rows=50, length=50)
    assert short.tokens_BT.shape == (50, 17)


def test_texts_are_eval_parts_and_the_same_for_every_run(cache):
    source = shared_source("source=prose")
    sets = [
        read_known(
            ["prose", "items"], source=build_source("source=prose"), sequences=8, length=64, cache_dir=str(cache)
        )
        for _ in range(2)
    ]
    assert sets[0].fingerprint == sets[1].fingerprint
    prose = sets[0].texts["prose"]
    assert prose.tokens_BT.shape == (8, 64)
    train = b"|".join(source._tokens[a:b].tobytes() for a, b in zip(source._start, source._end, strict=True))
    for row in prose.tokens_BT:
        assert bytes(row.tolist()) not in train
    other = read_known(["prose"], source=source, sequences=8, length=64, cache_dir=str(cache))
    assert other.fingerprint != sets[0].fingerprint
    assert read_known([], source=source, sequences=8, length=64, cache_dir=str(cache)).fingerprint == ""


GOOD = {"prompt": "a", "options": ["b", "c"], "answer": 1}
BROKEN = [
    "{",
    "[1]",
    json.dumps({"prompt": "a", "options": ["b", "c"]}),
    json.dumps(GOOD | {"options": ["b"], "answer": 0}),
    json.dumps(GOOD | {"options": ["b", "b"]}),
    json.dumps(GOOD | {"options": "bc"}),
    json.dumps(GOOD | {"answer": 2}),
    json.dumps(GOOD | {"answer": True}),
    json.dumps(GOOD | {"prompt": ""}),
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_named(line, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    with pytest.raises(ValueError, match=r"mine.jsonl\]: line 3 must be") as refused:
        read_items(file)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_none_is_refused(tmp_path):
    for name, content, why in (("empty", b"\n", "holds no item"), ("binary", b"\xff\xfe", "UTF-8")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=why):
            read_items(tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read"):
        read_items(tmp_path / "missing.jsonl")


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        (["eval.known=[pros]"], ["eval.known=", "did you mean prose?", "FILE.jsonl"]),
        (["eval.known=prose"], ["eval.known=prose", "list"]),
        (["eval.known=[prose,prose]"], ["eval.known=", "2 sets"]),
        (["eval.known=[a/items.jsonl,items]"], ["eval.known=", "2 sets"]),
        (["eval.known=['a b.jsonl']"], ["eval.known=", "a b.jsonl"]),
        (["eval.known=[prose]", "eval.known_sequences=0"], ["eval.known_sequences=0", "at least 1"]),
        (["eval.known=[nowhere.jsonl]"], ["eval.known=[nowhere.jsonl]"]),
        (["eval.known=[items]", "source=recall"], ["eval.known=", "source=recall"]),
    ],
)
def test_what_is_no_set_is_refused(typed, parts):
    message = refusal_of(*without(SMALL, "source=", "task.num_tasks", "task.held_out"), *last_of(*TEXT, *typed))
    assert all(part in message for part in parts)


def test_joined_sources_encode_as_their_parts_do():
    prose = shared_source("source=prose")
    assert Corpora(name="corpora", parts={"prose": prose}).encode("a\n").tolist() == [97, 10]
    joined = Corpora(name="corpora", parts={"recall": shared_source("source=recall")})
    with pytest.raises(ValueError, match=r"source\.parts=recall"):
        joined.encode("a")
