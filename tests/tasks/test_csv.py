"""source=csv against the rows that were written: labels, prompts with answers, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from small_streams import build_stream
from small_tokenizers import byte_level
from sources import build_source
from tables import news, sums, write_csv, write_jsonl

from ttt.stream import IGNORE
from ttt.tasks.machinery.cut import SourceView
from ttt.tasks.machinery.model_tokenizer import ModelTokenizer

NEWS, SUMS = {"text": "title", "label": "topic"}, {"prompt": "q", "answer": "a", "group": "kind"}
LENGTH = 96


def build(path, **changes):
    return build_source("source=csv", f"task.seq_len={LENGTH}", "model=nano", path=str(path), **changes)


@pytest.fixture
def topics(tmp_path):
    return write_csv(tmp_path / "news.csv", news())


@pytest.fixture
def pairs(tmp_path):
    return write_jsonl(tmp_path / "sums.jsonl", sums())


def halves(rows, column, share=0.2):
    """The rows of each class that are its train part, and those that are its eval part."""
    parts = ([], [])
    for name in dict.fromkeys(row[column] for row in rows):
        of_class = [row for row in rows if row[column] == name]
        cut = len(of_class) - round(share * len(of_class))
        parts[0].extend(of_class[:cut])
        parts[1].extend(of_class[cut:])
    return parts


def read_back(batch, names=()):
    """(text before an answer, answer) for every answer of a batch of bytes, row after row."""
    answers = []
    for tokens, targets, segment in zip(batch.tokens_BT, batch.targets_BT, batch.segment_BT, strict=True):
        window = [*tokens.tolist(), int(targets[-1])]
        scored = [False, *(targets != IGNORE).tolist()]
        assert all(window[t + 1] == targets[t] for t in range(len(targets)) if targets[t] != IGNORE)
        # Padding stands at the end alone, and nothing in it is scored.
        assert (segment.diff() <= 0).all()
        assert not ((targets != IGNORE) & (segment < 0)).any()
        before, answer = [], []
        for token, is_scored in zip(window, scored, strict=True):
            if answer and not is_scored:
                answers.append((bytes(before).decode(), text_of(answer, names)))
                before, answer = [], []
            (answer if is_scored else before).append(token)
        if answer:
            answers.append((bytes(before).decode(), text_of(answer, names)))
    return answers


def text_of(answer, names):
    return names[answer[0] - 256] if names else bytes(answer).decode()


def every_example(source, classes, names=()):
    units = source.units(classes, length=LENGTH)
    return read_back(source.take(units[:, None], length=LENGTH), names)


def test_a_label_is_scored_and_nothing_else(topics):
    source = build(topics, **NEWS)
    names = [source.class_name(c) for c in range(4)]
    assert names == ["Sports", "World", "Business", "Science"]
    assert (source.vocab_size, list(source.labels)) == (260, [256, 257, 258, 259])
    train, held = halves(news(), "topic")
    assert sorted(every_example(source, np.arange(4), names)) == sorted((r["title"] + "\n", r["topic"]) for r in train)
    evaluation = source.evaluation(np.arange(4), rows=len(held), length=LENGTH)
    seen = set(read_back(evaluation, names))
    assert seen <= {(r["title"] + "\n", r["topic"]) for r in held}
    only = source.draw(np.array([2]), rows=8, length=LENGTH, rng=np.random.default_rng(0))
    assert {name for _, name in read_back(only, names)} == {"Business"}


def test_an_answer_and_its_end_are_scored(pairs):
    source = build(pairs, **SUMS)
    assert [source.class_name(c) for c in range(2)] == ["plus", "minus"]
    train, _ = halves(sums(), "kind")
    assert sorted(every_example(source, np.arange(2))) == sorted((r["q"] + "\n", r["a"] + "\n") for r in train)
    assert len(source.labels) == 0
    # Several fit into a row, whichever they are; the longest one decides how many.
    longest = max(len(r["q"] + r["a"]) + 2 for r in sums())
    assert source.per_row(length=LENGTH) == (LENGTH + 1) // longest
    batch = source.draw(np.arange(2), rows=3, length=LENGTH, rng=np.random.default_rng(0))
    assert len(read_back(batch)) == 3 * source.per_row(length=LENGTH)


def test_spaces_of_a_separator_belong_to_the_answer(pairs):
    source = build(pairs, **SUMS, separator=" -> ", end="")
    row = halves(sums(), "kind")[0][0]
    assert (row["q"] + " ->", " " + row["a"]) in every_example(source, np.array([0]))


def test_files_of_all_kinds_hold_the_same_rows(topics, tmp_path):
    rows = news()
    tabs, lines = write_csv(tmp_path / "n.tsv", rows, delimiter="\t"), write_jsonl(tmp_path / "n.jsonl", rows)
    by_folder, by_file = tmp_path / "folders", tmp_path / "files"
    by_file.mkdir()
    for topic in dict.fromkeys(row["topic"] for row in rows):
        (by_folder / topic).mkdir(parents=True)
        of_topic = [row for row in rows if row["topic"] == topic]
        (by_folder / topic / "all.txt").write_text("".join(row["title"] + "\n" for row in of_topic))
        write_csv(by_file / f"{topic}.csv", of_topic)
    train = sorted(every_example(build(topics, **NEWS), np.arange(4), list("ABCD")))
    assert {build(path, **NEWS).fingerprint for path in (tabs, lines)} == {build(topics, **NEWS).fingerprint}
    for path, column in ((by_folder, "text"), (by_file, "title")):
        source = build(path, text=column)
        assert [source.class_name(c) for c in range(4)] == sorted({row["topic"] for row in rows})
        assert len(every_example(source, np.arange(4), list("ABCD"))) == len(train)


def test_prompts_are_cut_and_answers_are_not(tmp_path):
    rows = [{"q": f"{n:0>{n}}", "a": "y" * 4} for n in range(2, 42)] + [{"q": "z", "a": "y" * 50}, {"q": "", "a": "b"}]
    source = build(write_jsonl(tmp_path / "long.jsonl", rows), prompt="q", answer="a", max_tokens=20)
    # Separator, answer and end take six tokens of twenty.
    assert source.rows["prompts cut to 20 tokens"] == sum(n > 14 for n in range(2, 42))
    assert source.rows["left out, longer than 20 tokens"] == 1
    assert source.rows["left out, without text or answer"] == 1
    every = every_example(source, np.array([0]))
    assert {answer for _, answer in every} == {"yyyy\n"}
    assert max(len(prompt) for prompt, _ in every) == 15
    assert all(prompt.endswith("\n") for prompt, _ in every)
    with pytest.raises(ValueError, match=r"source\.max_tokens=4: .* 7 tokens"):
        build(write_jsonl(tmp_path / "short.jsonl", rows[:5]), prompt="q", answer="a", max_tokens=4, end="")


@pytest.mark.parametrize("scenario", ["class", "task", "domain"])
def test_labels_are_cut_by_every_scenario(scenario, topics):
    columns = [f"source.{name}={column}" for name, column in NEWS.items()]
    sizes = ("task.num_tasks=2", "task.classes_per_task=2", "task.held_out=4", "task.order=source", "task.batch_size=4")
    typed = ("source=csv", f"source.path={topics}", *columns, *sizes, f"task.seq_len={LENGTH}")
    stream = build_stream(*typed, f"task.scenario={scenario}")
    for i, task in enumerate(stream.tasks):
        batch = task.batch(0)
        labels = {256, 257} if scenario == "domain" else {256 + 2 * i, 257 + 2 * i}
        assert set(batch.targets_BT[batch.targets_BT != IGNORE].tolist()) == labels
        if scenario == "task":
            assert set(batch.outputs_BV[0].nonzero()[:, 0].tolist()) == labels
        else:
            assert batch.outputs_BV is None
        assert stream.answers is False


def test_labels_are_words_of_a_pretrained_model(tmp_path):
    """In a domain they stand for those of the first task, where they are answers and nowhere else."""
    tokenizer = ModelTokenizer(byte_level())
    rows = [{"t": f"{name} {i}", "l": name} for i in range(10) for name in ("def", "return", "end", "The")]
    path = write_csv(tmp_path / "words.csv", rows)
    source = build(path, text="t", label="l", tokenizer="model", model_tokenizer=byte_level)
    assert list(source.labels) == [int(tokenizer.encode(name)[0]) for name in ("def", "return", "end", "The")]
    assert source.vocab_size == tokenizer.vocab_size
    names_V = np.arange(source.vocab_size)
    names_V[source.labels[2]] = source.labels[0]
    view = SourceView(source=source, classes=np.array([2]), names_V=names_V, names_scored=True)
    batch = view.draw(rows=2, length=LENGTH, rng=np.random.default_rng(0))
    rows = zip(batch.tokens_BT, batch.segment_BT, strict=True)
    shown = [tokenizer.decode(tokens[segment >= 0].numpy()) for tokens, segment in rows]
    assert set(batch.targets_BT[batch.targets_BT != IGNORE].tolist()) == {source.labels[0]}
    assert all(text.startswith("end ") for text in shown)
    assert shown[0].count("end") == source.per_row(length=LENGTH)


def test_labels_that_begin_alike_are_refused(tmp_path):
    path = write_csv(tmp_path / "n.csv", [{"t": f"{i}", "l": name} for i in range(9) for name in ("Ç1", "Ç2")])
    with pytest.raises(ValueError, match=r"source\.label=l: 'Ç1' and 'Ç2'"):
        build(path, text="t", label="l", tokenizer="model", model_tokenizer=byte_level)


def test_a_row_that_is_too_short_names_the_setting(topics):
    source = build(topics, **NEWS)
    with pytest.raises(ValueError, match=r"task\.seq_len=8: .*source\.max_tokens=9"):
        source.per_row(length=8)


def test_symbols_are_those_of_the_text_and_positions_are_not_permuted(pairs):
    columns = [f"source.{name}={column}" for name, column in SUMS.items()]
    typed = ("source=csv", f"source.path={pairs}", *columns, f"task.seq_len={LENGTH}", "task=permuted-sequence")
    with pytest.raises(ValueError, match=r"task\.permute=positions"):
        build_stream(*typed, "task.permute=positions", "task.num_tasks=2")


def test_a_bpe_is_trained_on_the_train_parts(topics):
    source = build(topics, **NEWS, tokenizer="bpe-300")
    assert list(source.labels) == [300, 301, 302, 303]
    batch = source.take(source.units(np.array([1]), length=LENGTH)[:1, None], length=LENGTH)
    row = [*batch.tokens_BT[0][batch.segment_BT[0] >= 0].tolist(), int(batch.targets_BT[0].max())]
    first = next(item for item in news() if item["topic"] == "World")
    assert source.show(np.array(row)).startswith(first["title"] + "⏎ -> World")
