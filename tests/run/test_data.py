"""source@base_source: the base is trained on another source than the stream's."""

from __future__ import annotations

import pytest
import torch
from assembling import assembled, refusal_of, without
from harness import SMALL
from small_streams import source_of
from tables import news, write_csv

from ttt.stream import IGNORE


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    path = write_csv(tmp_path_factory.mktemp("tables") / "news.csv", news())
    return (
        *without(SMALL, "source", "task", "base"), "source=csv", f"source.path={path}", "source.text=title",
        "source.label=topic", "task.num_tasks=2", "task.classes_per_task=2", "task.held_out=4", "task.seq_len=64",
        "task.batch_size=2", "task.eval_sequences=2", "adapter=none",
    )  # fmt: skip


def test_the_base_is_all_of_the_other_source(typed):
    assembly = assembled(*typed, "source@base_source=prose")
    prose = source_of("source=prose")
    rows = assembly.stream.base.batch(0)
    assert (rows.targets_BT != IGNORE).all()
    text = "".join(prose.show(row.numpy()) for row in rows.tokens_BT)
    assert rows.tokens_BT.max() < prose.vocab_size == 256
    assert len(text) >= rows.tokens_BT.numel() / 2
    # The stream itself stays as it is.
    plain = assembled(*typed, "base=none")
    assert plain.stream.base is None
    for one, other in zip(plain.stream.tasks, assembly.stream.tasks, strict=True):
        assert torch.equal(one.batch(1).tokens_BT, other.batch(1).tokens_BT)


def test_the_same_source_as_a_base_is_another_run(typed):
    names = {assembled(*typed, f"source@base_source={name}").info.id for name in ("prose", "code")}
    assert len(names) == 2


def test_tokens_must_mean_the_same(typed):
    for words in (
        ("base_source.tokenizer=bpe-300",),
        ("source.tokenizer=bpe-300", "base_source.tokenizer=bpe-300"),
    ):
        assert refusal_of(*typed, "source@base_source=prose", *words).startswith("source@base_source=prose: ")
    assert refusal_of(*typed, "source@base_source=mnist").startswith("source@base_source=mnist: ")


NEEDLES = (*without(SMALL, "source", "task.num_tasks", "task.held_out", "task.seq_len"),
           "source=needle", "task.num_tasks=5", "task.seq_len=128", "adapter=none")  # fmt: skip


def test_needles_behind_a_base_of_prose():
    assembly = assembled(*NEEDLES, "source@base_source=prose", "base=pretrain")
    # All of running text is learned, of needles the answers alone.
    assert (assembly.stream.base.batch(0).targets_BT != IGNORE).all()
    assert (assembly.stream.tasks[0].batch(0).targets_BT != IGNORE).float().mean() < 0.2
    plain = assembled(*NEEDLES, "base=none")
    assert torch.equal(plain.stream.tasks[4].batch(1).tokens_BT, assembly.stream.tasks[4].batch(1).tokens_BT)


def test_the_tokens_of_needles_are_those_of_their_haystack():
    refusal = refusal_of(*NEEDLES, "source@base_source=prose", "source.haystack.tokenizer=bpe-300")
    assert refusal.startswith("source@base_source=prose: its tokenizer is bytes, that of source=needle is bpe-300")
