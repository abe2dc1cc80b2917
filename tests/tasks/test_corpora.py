"""Running text by class: pure, cut so that no eval window was trained on, read once in one pass; and wrong input."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
import socket
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ttt.config.build import build
from ttt.tasks import tables
from ttt.tasks.corpora import Corpora
from ttt.tasks.machinery import documents, spans
from ttt.tasks.machinery.hub import work_offline
from ttt.tasks.machinery.tokenizers import BpeTokenizer, ByteTokenizer, train_bpe, visible

EMBEDDED = ["languages", "code", "prose", "tables", "corpora"]
SYLLABLES = ("ba", "ne", "ti", "lo", "du", "ra", "me", "si", "ko", "tu", "the", "ing")
WORDS = [a + b for a in SYLLABLES for b in SYLLABLES]


def make(name, cache, **changes):
    """The source as its YAML describes it."""
    config = described(name)
    config.cache_dir = str(cache)
    return build(OmegaConf.to_container(config.source, resolve=True) | changes, group="source", given={}, trusted=[])


@functools.cache
def described(name):
    with initialize_config_module("ttt.conf", version_base="1.3"):
        return compose("config", overrides=[f"source={name}"])


@pytest.fixture(scope="session")
def source(cache):
    made = {}

    def get(name):
        if name not in made:
            made[name] = make(name, cache)
        return made[name]

    return get


def texts(source):
    """Train part and eval runs of each class, as tokens."""
    if isinstance(source, Corpora):
        return [text for part in source.parts.values() for text in texts(part)]
    trains = [source._tokens[a:b] for a, b in zip(source._start, source._end, strict=True)]
    runs = [[source._tokens[a:b] for a, b in zip(*pair, strict=True)] for pair in source._runs]
    return list(zip(trains, runs, strict=True))


def everything(source):
    return np.arange(len(texts(source)))


def prose(words, *, seed=0):
    """Made-up text, a line break after every tenth word."""
    chosen = np.random.default_rng(seed).choice(WORDS, words)
    return "\n".join(" ".join(chosen[i : i + 10]) for i in range(0, words, 10)) + "\n"


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# What holds for every embedded corpus.


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_batch_is_a_pure_function_of_its_key(name, source):
    classes = everything(source(name))[1:]

    def draw(key):
        return source(name).draw(classes, rows=8, length=40, rng=np.random.default_rng(key))

    assert torch.equal(draw(1).tokens_BT, draw(1).tokens_BT)
    assert not torch.equal(draw(1).tokens_BT, draw(2).tokens_BT)
    assert draw(1).tokens_BT.shape == draw(1).segment_BT.shape == (8, 40)
    first, second = (source(name).evaluation(classes, rows=8, length=40) for _ in range(2))
    assert torch.equal(first.tokens_BT, second.tokens_BT)


@pytest.mark.parametrize("name", EMBEDDED)
def test_windows_lie_inside_the_part_they_are_of(name, source):
    """What is drawn, and the token behind it, stands in the train part; what is evaluated in one clean run."""
    rng = np.random.default_rng(0)
    for c in rng.choice(everything(source(name)), 5, replace=False):
        train, runs = texts(source(name))[c]
        drawn = source(name).draw(np.array([c]), rows=200, length=100, rng=rng)
        held = source(name).evaluation(np.array([c]), rows=50, length=100)
        for batch, homes in ((drawn, [train]), (held, runs)):
            homes = [home.tobytes() for home in homes]
            assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])
            for tokens, targets in zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True):
                assert any(bytes([*tokens, targets[-1]]) in home for home in homes)


@pytest.mark.parametrize("name", EMBEDDED)
def test_nothing_that_is_evaluated_was_trained_on(name, source):
    """No 128 bytes of any eval run stand in any train part: exact for a sample, by hashes for all of them."""
    trains, runs = zip(*texts(source(name)), strict=True)
    known = spans.known_spans(trains)
    assert not any(len(spans.repeats(run, known)) for own in runs for run in own)
    everywhere = b"\0".join(train.tobytes() for train in trains)
    batch = source(name).evaluation(everything(source(name)), rows=100, length=spans.SPAN)
    assert not any(bytes(tokens) in everywhere for tokens in batch.tokens_BT.tolist())


@pytest.mark.parametrize("name", EMBEDDED)
def test_one_pass_reads_every_unit_once(name, source):
    length, classes = 100, everything(source(name))[::3]
    units = source(name).units(classes, length=length)
    assert source(name).per_row(length=length) == 1
    assert len(np.unique(units)) == len(units)
    trains = [texts(source(name))[c][0] for c in classes]
    # In another order than they stand in, as a stream would.
    order = np.random.default_rng(0).permutation(len(units))
    batch = source(name).take(units[order][:, None], length=length)
    read = np.empty((len(units), length), np.uint8)
    read[order] = batch.tokens_BT.numpy()
    expected = [train[: (len(train) - 1) // length * length].reshape(-1, length) for train in trains]
    assert (read == np.concatenate(expected)).all()
    assert torch.equal(batch.tokens_BT[:, 1:], batch.targets_BT[:, :-1])


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_a_source_says_of_itself(name, source):
    told = source(name)
    classes = everything(told)
    assert sorted(c for family in told.families() for c in family) == classes.tolist()
    assert len({told.class_name(c) for c in classes}) == len(classes) == told.rows["classes"]
    trains, runs = zip(*texts(told), strict=True)
    assert told.rows["train tokens"] == sum(map(len, trains))
    assert told.rows["eval tokens"] == sum(len(run) for own in runs for run in own)
    assert (told.vocab_size, told.symbols, told.labels, told.example_len) == (256, range(256), range(0), None)
    assert np.isnan(told.entropy(classes))


@pytest.mark.parametrize("name", EMBEDDED)
def test_evaluation_is_even_over_classes(name, source):
    """More rows than classes: all as often, but for one; fewer: some, from the first to the last."""
    told = source(name)
    texts_of = [b"\0".join(run.tobytes() for run in runs) for _, runs in texts(told)]
    classes = everything(told)[-4:]
    few = told.evaluation(classes, rows=2, length=64)
    assert bytes(few.tokens_BT[0].tolist()) in texts_of[classes[0]]
    assert bytes(few.tokens_BT[1].tolist()) in texts_of[classes[-1]]
    many = told.evaluation(classes, rows=10, length=64)
    of_class = np.repeat(classes, [3, 3, 2, 2])
    assert all(bytes(row) in texts_of[c] for row, c in zip(many.tokens_BT.tolist(), of_class, strict=True))


@pytest.mark.parametrize("name", EMBEDDED)
def test_too_long_a_sequence_is_refused(name, source):
    told, classes = source(name), everything(source(name))
    sizes = [len(train) for train, _ in texts(told)]
    smallest = int(np.argmin(sizes))
    length = sizes[smallest]
    for refuse in (
        lambda: told.draw(classes, rows=1, length=length, rng=np.random.default_rng(0)),
        lambda: told.units(classes, length=length),
    ):
        with pytest.raises(
            ValueError, match=f"^task.seq_len={length}: longer than the train part of .*{length} tokens"
        ) as error:
            refuse()
        assert f"{length - 1} is the most that fits" in one_line(error)
    told.draw(np.array([smallest]), rows=9, length=length - 1, rng=np.random.default_rng(0))
    longest = max(len(run) for run in texts(told)[smallest][1])
    with pytest.raises(ValueError, match=f"^task.seq_len={longest}: longer than the eval part of .*{longest} tokens"):
        told.evaluation(np.array([smallest]), rows=1, length=longest)
    assert told.evaluation(np.array([smallest]), rows=1, length=longest - 1).tokens_BT.shape == (1, longest - 1)


@pytest.mark.parametrize("name", ["prose", "tables"])
def test_content_alone_decides_the_fingerprint(name, source, tmp_path):
    assert make(name, tmp_path).fingerprint == source(name).fingerprint
    assert make(name, tmp_path, eval_share=0.3).fingerprint != source(name).fingerprint


# Each corpus.


def digest(batch):
    return hashlib.sha256(batch.tokens_BT.numpy().tobytes() + batch.targets_BT.numpy().tobytes()).hexdigest()[:16]


def test_languages_are_what_they_were(source):
    """Batches as the first version made them, for classes without a hole in their eval part."""
    told = source("languages")
    assert (told.rows["classes"], told.rows["classes left out"], len(told.families())) == (522, 10, 432)
    rng = np.random.default_rng([0, 2, 7])
    assert digest(told.draw(np.arange(522), rows=16, length=256, rng=rng)) == "3568805fc3884a60"
    rng = np.random.default_rng([1])
    assert digest(told.draw(np.arange(10, 30), rows=4, length=33, rng=rng)) == "d0a661abe51d8f1b"
    some = np.arange(0, 600, 100)
    assert digest(told.evaluation(some, rows=16, length=256)) == "e137d794ad852ec8"
    assert digest(told.evaluation(some, rows=4, length=64)) == "4559ac1215711478"
    assert digest(told.evaluation(some[:1], rows=5, length=128)) == "1a05229693d99c41"


def test_relatives_are_found(source):
    told = source("languages")
    names = [sorted(told.class_name(c).split()[0] for c in family) for family in told.families()]
    by_code = {code: family for family in names for code in family}
    assert "hrv" in by_code["bos_latn"]
    assert "cmn_hant" in by_code["cmn_hans"]
    assert by_code["eng"] == ["eng"]


def test_code_is_the_library_of_this_python(source):
    told = source("code")
    names = [told.class_name(c) for c in everything(told)]
    assert 60 <= len(names) <= 120
    assert {"json", "argparse", "asyncio"} <= set(names)
    assert not {"test", "site-packages", "encodings", "pydoc_data", "this"} & set(names)
    import argparse

    train = texts(told)[names.index("argparse")][0]
    assert Path(argparse.__file__).read_bytes().startswith(train.tobytes())


def test_tables_are_what_their_readme_says(source):
    told = source("tables")
    assert hashlib.sha256(tables.DATA.read_bytes()).hexdigest() in (tables.DATA.parent / "README.md").read_text()
    assert [told.class_name(c) for c in everything(told)] == ["breast_cancer", "diabetes", "digits", "iris", "wine"]
    for train, _ in texts(told):
        lines = train.tobytes().decode().splitlines()
        assert len({line.count(",") for line in lines}) == 1


def test_prose_does_not_repeat_itself(source):
    """Topics that are passages of others are left out, so that hardly anything has to be cut out of eval parts."""
    told = source("prose")
    whole = sum(len(train) for train, _ in texts(told)) + told.rows["eval tokens"]
    assert told.rows["eval tokens"] / whole == pytest.approx(0.2, abs=0.02)
    assert {"short topics", "types", "strings"} <= {told.class_name(c) for c in everything(told)}


# Spans.


def brute_force(text, others):
    held = {other[i : i + spans.SPAN] for other in others for i in range(len(other) - spans.SPAN + 1)}
    return [i for i in range(len(text) - spans.SPAN + 1) if text[i : i + spans.SPAN] in held]


def as_bytes(text):
    return np.frombuffer(text.encode(), np.uint8)


PIECES = [prose(12, seed=seed) for seed in range(3)] + ["å" * 70, "日本語" * 20, "x", "", "\n", "é\n"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@pytest.mark.parametrize("block", [1 << 20, 97])
def test_spans_are_found_as_by_comparing_all(block, monkeypatch):
    monkeypatch.setattr(spans, "BLOCK", block)
    spans._constants.cache_clear()

    @settings(max_examples=60, deadline=None)
    @given(TEXTS, st.lists(TEXTS, max_size=3))
    def check(text, others):
        known = spans.known_spans([as_bytes(other) for other in others])
        places = spans.repeats(as_bytes(text), known)
        assert places.tolist() == brute_force(text.encode(), [other.encode() for other in others])
        runs = spans.clean_runs(as_bytes(text), known)
        assert all(0 <= a < b <= len(text.encode()) for a, b in runs)
        assert all(b <= c for (_, b), (c, _) in pairwise(runs))
        covered = {j for i in places.tolist() for j in range(i, i + spans.SPAN)}
        kept = {j for a, b in runs for j in range(a, b)}
        assert not covered & kept
        for a, b in runs:
            # Whole characters; and nothing is lost but what is covered, or part of a character that is.
            assert as_bytes(text)[a:b].tobytes().decode() in text
        lost = set(range(len(text.encode()))) - covered - kept
        assert len(lost) <= 6 * (len(runs) + 1)

    check()
    spans._constants.cache_clear()


def test_of_very_much_text_a_share_of_the_hashes_will_do(monkeypatch):
    monkeypatch.setattr(spans, "ALL_BYTES", 10_000)
    rng = np.random.default_rng(0)
    train = rng.integers(0, 128, 200_000).astype(np.uint8)
    known = spans.known_spans([train])
    assert len(known) == pytest.approx(len(train) / 20, rel=0.1)
    shared = train[5000:5600]
    text = np.concatenate([rng.integers(0, 128, 3000).astype(np.uint8), shared, train[:50]])
    runs = spans.clean_runs(text, known)
    # 473 spans are shared; the chance that none is kept is (1 - 1/20)^473.
    assert [a for a, _ in runs] == [0, pytest.approx(3600, abs=127)]
    assert runs[0][1] == pytest.approx(3000, abs=127)
    assert not any(shared.tobytes()[i : i + 128] in text[a:b].tobytes() for a, b in runs for i in range(473))


def cut(*contents, eval_share=0.25, min_bytes=400):
    pieces = [documents.Document(*content) for content in contents]
    return list(documents.cut_documents(pieces, eval_share=eval_share, min_bytes=min_bytes, asked="source=x"))


@settings(max_examples=50, deadline=None)
@given(st.integers(60, 400), st.floats(0.05, 0.9), st.integers(0, 3))
def test_a_text_is_cut_at_a_line_break(words, eval_share, seed):
    text = prose(words, seed=seed)
    train, evaluated = cut(("a", 0, text), eval_share=eval_share, min_bytes=100)
    head, tail = (bytes(row["tokens"]).decode() for row in (train, evaluated))
    assert head + tail == text
    # The first line break behind the share; in the last line the share itself.
    share = len(text) * (1 - eval_share)
    breaks = [i + 1 for i, letter in enumerate(text[:-1]) if letter == "\n" and i + 1 >= share]
    assert len(head) == (breaks[0] if breaks else int(share))


def test_text_without_a_line_break_is_cut_between_characters():
    text = "".join(chr(0x4E00 + i * i % 9999) for i in range(300))
    train, evaluated = cut(("a", 0, text))
    assert bytes(train["tokens"]).decode() + bytes(evaluated["tokens"]).decode() == text
    assert len(evaluated["tokens"]) == pytest.approx(225, abs=3)


def test_documents_of_a_class_are_joined_wherever_they_stand():
    a, b = prose(100, seed=1), prose(100, seed=2)
    rows = cut(("x", 3, a), ("y", 4, prose(200, seed=3)), ("x", 3, b), ("x", 3, None), ("z", 5, "short"))
    parts = Counter((row["name"], row["part"]) for row in rows)
    assert parts["z", "left out"] == parts["x", "unreadable"] == 1
    text = b"".join(bytes(row["tokens"]) for row in rows if row["name"] == "x").decode()
    assert text == f"{a}\n{b}"
    assert {row["group"] for row in rows if row["name"] == "x" and row["part"] != "unreadable"} == {3}


def test_a_class_that_another_holds_in_full_is_left_out():
    text, own = prose(300, seed=1), prose(300, seed=2)
    rows = cut(("copy", 0, text), ("whole", 1, text + text), ("own", 2, own))
    assert {row["name"]: row["part"] for row in rows} == {"copy": "left out", "whole": "left out", "own": "eval"}


def test_broken_unicode_does_not_stop_anything():
    train, _ = cut(("a", 0, "\ud800" + prose(200)))
    assert bytes(train["tokens"])[:1] == b"?"


# Tokenizers.


@pytest.fixture(scope="session")
def bpe(cache):
    return make("prose", cache, tokenizer="bpe-512")


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_tokens_are_the_text(text, bpe):
    for coder in (ByteTokenizer(), bpe._coder):
        tokens = coder.encode(text)
        assert coder.decode(tokens.astype(np.int64)) == text
        assert not len(tokens) or tokens.max() < coder.vocab_size


def test_bpe_cuts_the_same_text_into_fewer_tokens(bpe, source):
    plain = source("prose")
    assert bpe.vocab_size == 512
    assert bpe.symbols == range(512)
    assert bpe.families() == plain.families()
    assert bpe.rows["train tokens"] < 0.6 * plain.rows["train tokens"]
    for (train, runs), (plain_train, plain_runs) in zip(texts(bpe), texts(plain), strict=True):
        assert bpe._coder.decode(train) == plain_train.tobytes().decode()
        assert [bpe._coder.decode(run) for run in runs] == [run.tobytes().decode() for run in plain_runs]


def test_bpe_is_trained_on_train_parts_alone(tmp_path):
    """Other eval parts change what is evaluated, not one symbol; another train part does."""

    def symbols(cache, train, evaluated):
        for name in ("a", "b"):
            (tmp_path / cache / "text" / name).mkdir(parents=True)
            (tmp_path / cache / "text" / name / "1.txt").write_text(train + f"{name}\n" + evaluated)
        made = make("text", tmp_path / cache, path=str(tmp_path / cache / "text"), tokenizer="bpe-400", eval_share=0.2)
        return made._coder._tokenizer.to_str(), made.fingerprint

    train = prose(2000, seed=1)
    first = symbols("one", train, "zebra quagga\n" * 140)
    second = symbols("two", train, "oxbow zigzag\n" * 140)
    third = symbols("three", prose(2000, seed=2).replace("the", "thy"), "zebra quagga\n" * 140)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert first[0] != third[0]
    assert "zebr" not in first[0]


def test_bpe_depends_on_the_text_alone():
    lines = prose(3000)
    assert train_bpe([lines], symbols=400) == train_bpe(lines.splitlines(keepends=True), symbols=400)
    tokens = BpeTokenizer(train_bpe(["ab"], symbols=300), vocab_size=300)
    # Too little text for so many symbols.
    assert tokens.decode(tokens.encode("ab\n")) == "ab\n"


def test_tokens_are_shown_as_text(source):
    assert visible("a\tb\r\n\0\x7f") == "a␉b␍⏎␀␡"
    assert source("prose").show(np.array([195, 169, 10, 195])) == "é⏎�"


@pytest.mark.parametrize("tokenizer", ["byte", "bpe", "bpe-", "bpe-299", "bpe-65001", "bpe-1k", "gpt2", ""])
def test_unknown_tokenizers_are_refused(tokenizer, cache):
    with pytest.raises(
        ValueError, match=f"^source.tokenizer={tokenizer}: must be bytes, or bpe-N with N from 300"
    ) as error:
        make("prose", cache, tokenizer=tokenizer)
    one_line(error)


@pytest.mark.parametrize("eval_share", [0, 1, 1.5, -0.1])
def test_impossible_shares_are_refused(eval_share, cache):
    with pytest.raises(ValueError, match=rf"^source.eval_share={float(eval_share)}: must lie between 0 and 1"):
        make("prose", cache, eval_share=eval_share)


# Your own text.


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(["keats", "austen", "blake"]):
        (tmp_path / "letters" / name / "deep").mkdir(parents=True)
        (tmp_path / "letters" / name / "1.txt").write_text(prose(400, seed=number))
        (tmp_path / "letters" / name / "deep" / "2.md").write_text(prose(400, seed=number + 10))
    return tmp_path / "letters"


def test_a_folder_for_each_class(folder, tmp_path):
    made = make("text", tmp_path / "cache", path=str(folder))
    assert [made.class_name(c) for c in range(3)] == ["austen", "blake", "keats"]
    assert made.families() == [[0], [1], [2]]
    assert set(made.rows) == {"classes", "train tokens", "eval tokens"}
    train, (run,) = texts(made)[2]
    assert train.tobytes().decode() + run.tobytes().decode() == f"{prose(400, seed=0)}\n{prose(400, seed=10)}"


def test_what_is_left_out_is_counted_and_what_is_hidden_is_not_read(folder, tmp_path):
    plain = make("text", tmp_path / "cache", path=str(folder))
    (folder / "blake" / ".hidden").write_text(prose(400, seed=20))
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text(prose(400, seed=21))
    (folder / "README").write_text("beside the classes")
    assert make("text", tmp_path / "cache", path=str(folder)).fingerprint == plain.fingerprint
    (folder / "blake" / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    (folder / "small").mkdir()
    (folder / "small" / "1.txt").write_text("too small")
    for _ in range(2):
        made = make("text", tmp_path / "cache", path=str(folder))
        assert made.rows["classes"] == 3
        assert made.rows["classes left out"] == 1
        assert made.rows["documents left out"] == 1


def test_a_changed_file_is_another_corpus(folder, tmp_path):
    first = make("text", tmp_path / "cache", path=str(folder))
    (folder / "blake" / "1.txt").write_text(prose(400, seed=30))
    assert make("text", tmp_path / "cache", path=str(folder)).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (None, "source.path=null: name a folder; put the files of each class into a folder of its own"),
        ("missing", "source.path={}: no such folder; put the files of each class into a folder of its own"),
        ("file", "source.path={}: not a folder; put the files of each class into a folder of its own"),
        ("empty", "source.path={}: the folder is empty; put the files"),
        ("flat", "source.path={}: has files, but no folders in it; put the files"),
        ("hollow", "source.path={}: there is no file in its folders; put the files"),
        ("small", "source.path={}: no class has 2000 bytes of UTF-8 text"),
    ],
)
def test_folders_that_do_not_fit_are_refused(layout, message, tmp_path):
    path = tmp_path / str(layout)
    for name in {"empty": ["."], "flat": ["."], "hollow": ["a", ".b"], "small": ["a"]}.get(layout, []):
        (path / name).mkdir(parents=True, exist_ok=True)
    for name in {"file": [""], "flat": ["1.txt"], "small": ["a/1.txt"], "hollow": [".b/1.txt"]}.get(layout, []):
        (path / name).write_text("text")
    with pytest.raises(ValueError, match="^" + re.escape(message.format(path))) as error:
        make("text", tmp_path / "cache", path=layout and str(path))
    one_line(error)


# Files and the hub.

ROWS = [{"text": prose(20, seed=i), "label": i % 3, "topic": ["sun", "moon"][i % 2]} for i in range(240)]


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
    return str(path)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "csv", "txt"])
def test_files_of_every_kind_hold_the_same_text(kind, tmp_path):
    path = write(tmp_path / f"rows.{kind}")
    made = make("hf", tmp_path / "cache", path=path)
    assert made.class_name(0) == "rows"
    train, (run,) = texts(made)[0]
    joined = "" if kind == "txt" else "\n"
    assert train.tobytes().decode() + run.tobytes().decode() == joined.join(row["text"] for row in ROWS).rstrip(
        "" if joined else "\n"
    )


def test_a_column_names_the_class(tmp_path):
    path = write(tmp_path / "rows.parquet")
    by_topic = make("hf", tmp_path / "cache", path=path, class_column="topic")
    assert [by_topic.class_name(c) for c in range(2)] == ["sun", "moon"]
    by_label = make("hf", tmp_path / "cache", path=path, class_column="label")
    assert [by_label.class_name(c) for c in range(3)] == ["0", "1", "2"]
    assert by_label.rows["train tokens"] == pytest.approx(by_topic.rows["train tokens"], rel=0.01)


def test_labels_have_the_names_that_their_feature_gives_them(tmp_path):
    import datasets

    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["x", "y", "z"]))
    rows = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    made = make("hf", tmp_path / "cache", path=str(tmp_path / "rows.parquet"), class_column="label")
    assert [made.class_name(c) for c in range(3)] == ["x", "y", "z"]


def test_a_folder_of_files_and_its_first_rows(tmp_path):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "0.jsonl", ROWS[:120])
    write(tmp_path / "parts" / "1.jsonl", ROWS[120:])
    whole = make("hf", tmp_path / "cache", path=write(tmp_path / "rows.jsonl"), class_column="topic")
    parts = make("hf", tmp_path / "cache", path=str(tmp_path / "parts"), class_column="topic")
    assert parts.fingerprint == whole.fingerprint
    first = make("hf", tmp_path / "cache", path=str(tmp_path / "parts"), class_column="topic", max_rows=120)
    assert first.rows["train tokens"] == pytest.approx(whole.rows["train tokens"] / 2, rel=0.1)


def test_rows_without_text_are_counted(tmp_path):
    path = write(tmp_path / "rows.jsonl", [*ROWS, {"text": None, "label": 0, "topic": "sun"}])
    assert make("hf", tmp_path / "cache", path=path).rows["documents left out"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": None}, "source.path=null: name a dataset of the hub"),
        ({"path": "FOLDER/missing.csv"}, "source.path=FOLDER/missing.csv: no such file; allowed: a dataset of the hub"),
        ({"path": "./missing"}, "source.path=./missing: no such file; allowed"),
        ({"path": "FOLDER/rows.zip"}, "source.path=FOLDER/rows.zip: cannot be read; allowed"),
        ({"path": "FOLDER/mixed"}, "source.path=FOLDER/mixed: holds .csv, .jsonl; allowed"),
        ({"path": "FOLDER/cache"}, "source.path=FOLDER/cache: no file of these kinds in it; allowed"),
        ({"path": "FOLDER/broken.parquet"}, "source.path=FOLDER/broken.parquet: "),
        ({"path": "FOLDER/broken.json"}, "source.path=FOLDER/broken.json: "),
        (
            {"text_column": "txt"},
            "source.text_column=txt: no such column; did you mean text? FOLDER/rows.csv has: text, l",
        ),
        ({"class_column": "labels"}, "source.class_column=labels: no such column; did you mean label?"),
        ({"class_column": "qqqq"}, "source.class_column=qqqq: no such column; FOLDER/rows.csv has: text, label, topic"),
        ({"path": "FOLDER/lists.jsonl"}, "source.text_column=text: holds no text, but list"),
        ({"split": "test"}, "source.split=test: "),
        ({"max_rows": 0}, "source.max_rows=0: must be at least 1, or null for all"),
        ({"max_rows": 1}, "source.path=FOLDER/rows.csv: no class has 2000 bytes"),
    ],
)
def test_files_that_do_not_fit_are_refused(changes, message, tmp_path, capfd):
    for name in ("mixed", "cache"):
        (tmp_path / name).mkdir()
    for name in ("rows.csv", "mixed/a.csv", "mixed/b.jsonl"):
        write(tmp_path / name)
    for name in ("rows.zip", "broken.parquet", "broken.json"):
        (tmp_path / name).write_text('{"text": ')
    (tmp_path / "lists.jsonl").write_text(json.dumps({"text": ["a", "b"]}))
    capfd.readouterr()
    changes = {"path": "FOLDER/rows.csv"} | changes
    typed = {
        key: value.replace("FOLDER", str(tmp_path)) if key == "path" and value else value
        for key, value in changes.items()
    }
    with pytest.raises(ValueError, match="^" + re.escape(message.replace("FOLDER", str(tmp_path)))) as error:
        make("hf", tmp_path / "cache", **typed)
    one_line(error)
    # Nothing else is said on the way.
    assert capfd.readouterr() == ("", "")


OFFLINE = (
    "source.path=some/data: no such file here, and the hub cannot be reached; without a network: "
    "source.path=FILE.parquet|.jsonl|.csv, source=text source.path=FOLDER, or source=languages|code|prose|tables"
)


def test_offline_on_purpose(tmp_path):
    with pytest.raises(ValueError, match="^" + re.escape(OFFLINE)) as error:
        make("hf", tmp_path, path="some/data")
    one_line(error)


def test_a_hub_that_does_not_answer_is_given_up_at_once(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert work_offline() is False
    # Nobody listens there any more.
    start = time.perf_counter()
    with pytest.raises(ValueError, match="^" + re.escape(OFFLINE)):
        make("hf", tmp_path, path="some/data")
    assert time.perf_counter() - start < 3


@pytest.fixture
def downloaded(tmp_path):
    """A dataset `own/data` as one that was downloaded before lies in the cache of `datasets`."""
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE)
    datasets.disable_progress_bars()
    datasets.load_dataset("json", data_files=write(tmp_path / "data.jsonl"), cache_dir=str(tmp_path / "made"))
    (made,) = (tmp_path / "made" / "json").glob("*/*/*/dataset_info.json")
    there = cache / "own___data" / "default" / "0.0.0" / "0123456789abcdef"
    shutil.copytree(made.parent, there)
    (there / "json-train.arrow").rename(there / "data-train.arrow")
    yield cache / "own___data"
    shutil.rmtree(cache / "own___data", ignore_errors=True)


def test_what_was_downloaded_is_found_and_what_is_prepared_needs_no_network(downloaded, tmp_path, capfd):
    first = make("hf", tmp_path / "cache", path="own/data", class_column="topic")
    assert [first.class_name(c) for c in range(2)] == ["sun", "moon"]
    with pytest.raises(ValueError, match=r"^source.split=test: .*split"):
        make("hf", tmp_path / "cache", path="own/data", split="test")
    shutil.rmtree(downloaded)
    again = make("hf", tmp_path / "cache", path="own/data", class_column="topic")
    assert again.fingerprint == first.fingerprint
    with pytest.raises(ValueError, match="^" + re.escape(OFFLINE.replace("some", "own"))):
        make("hf", tmp_path / "cache", path="own/data", class_column="label")
    assert capfd.readouterr().err == ""


# Corpora.


def part(told, name):
    """The classes of one part, by their names."""
    return np.array([c for c in everything(told) if told.class_name(c).startswith(f"{name}/")])


def test_classes_of_all_parts_under_their_names(source):
    told = source("corpora")
    assert list(told.parts) == ["languages", "code", "prose", "tables"]
    for name in told.parts:
        classes = part(told, name)
        assert {told.class_name(c).split("/")[0] for c in classes} == {name}
        assert [told.class_name(c).removeprefix(f"{name}/") for c in classes] == [
            source(name).class_name(c) for c in everything(source(name))
        ]
    assert len(told.families()) == sum(len(source(name).families()) for name in told.parts)


def test_a_part_alone_draws_measures_and_reads_as_it_does_alone(source):
    told = source("corpora")
    for name in told.parts:
        own, classes = everything(source(name)), part(told, name)
        there, here = told.evaluation(classes, rows=9, length=50), source(name).evaluation(own, rows=9, length=50)
        assert torch.equal(there.tokens_BT, here.tokens_BT)
        units = told.units(classes, length=50)[::7, None]
        alone = source(name).units(own, length=50)[::7, None]
        assert torch.equal(told.take(units, length=50).tokens_BT, source(name).take(alone, length=50).tokens_BT)


def test_rows_of_several_parts_are_as_likely_as_their_classes(source):
    told = source("corpora")
    mixed = np.concatenate([part(told, "prose")[:3], part(told, "tables")[:1]])
    homes = [texts(told)[c][0].tobytes() for c in mixed]
    batch = told.draw(mixed, rows=400, length=60, rng=np.random.default_rng(0))
    found = [next(i for i, home in enumerate(homes) if bytes(row) in home) for row in batch.tokens_BT.tolist()]
    # A row's class does not depend on where it stands.
    for half in (found[:200], found[200:]):
        assert min(Counter(half).values()) > 30
        assert len(Counter(half)) == 4
    # The order of classes and parts is kept.
    across = mixed[[3, 0, 2, 1]]
    held = told.evaluation(across, rows=4, length=60)
    for c, row in zip(across, held.tokens_BT.tolist(), strict=True):
        assert any(bytes(row) in run.tobytes() for run in texts(told)[c][1])


def test_parts_that_do_not_go_together_are_refused(source, bpe):
    prose, other = source("prose"), SimpleNamespace(vocab_size=32, example_len=None)
    for parts, message in (
        ({}, "source.parts={}: name at least one source"),
        ({"a": prose, "b": bpe}, "source.parts.b.tokenizer=bpe-512: each part would have symbols of its own"),
        ({"a": prose, "b": other}, "source.parts: tokens differ in number: a 256, b 32; give all parts the same"),
        ({"a": SimpleNamespace(example_len=17)}, "source.parts.a: has labelled examples"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message)) as error:
            Corpora(name="corpora", parts=parts)
        one_line(error)
