"""How text is cut: shared spans are noticed, parts end at line breaks, small classes go."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import prose

from ttt.tasks.machinery import documents, spans


def brute_force(text, others):
    spans_of_others = {other[i : i + spans.SPAN] for other in others for i in range(len(other) - spans.SPAN + 1)}
    return [i for i in range(len(text) - spans.SPAN + 1) if text[i : i + spans.SPAN] in spans_of_others]


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
        hashes = spans.span_hashes([as_bytes(other) for other in others])
        places = spans.repeats(as_bytes(text), hashes)
        assert places.tolist() == brute_force(text.encode(), [other.encode() for other in others])
        runs = spans.clean_runs(as_bytes(text), hashes)
        assert all(0 <= a < b <= len(text.encode()) for a, b in runs)
        assert all(b <= c for (_, b), (c, _) in pairwise(runs))
        covered = {j for i in places.tolist() for j in range(i, i + spans.SPAN)}
        clean = {j for a, b in runs for j in range(a, b)}
        assert not covered & clean
        for a, b in runs:
            # Whole characters only.
            assert as_bytes(text)[a:b].tobytes().decode() in text
        # Nothing is lost but what is covered, and parts of characters at the ends of runs.
        lost = set(range(len(text.encode()))) - covered - clean
        assert len(lost) <= 6 * (len(runs) + 1)

    check()
    spans._constants.cache_clear()


def test_of_much_text_a_share_of_the_hashes_will_do(monkeypatch):
    monkeypatch.setattr(spans, "ALL_BYTES", 10_000)
    rng = np.random.default_rng(0)
    train = rng.integers(0, 128, 200_000).astype(np.uint8)
    hashes = spans.span_hashes([train])
    assert len(hashes) == pytest.approx(len(train) / 20, rel=0.1)
    shared = train[5000:5600]
    text = np.concatenate([rng.integers(0, 128, 3000).astype(np.uint8), shared, train[:50]])
    runs = spans.clean_runs(text, hashes)
    # 473 spans are shared; the chance that none is kept is (1 - 1/20)^473.
    assert [a for a, _ in runs] == [0, pytest.approx(3600, abs=127)]
    assert runs[0][1] == pytest.approx(3000, abs=127)
    assert not any(shared.tobytes()[i : i + 128] in text[a:b].tobytes() for a, b in runs for i in range(473))


def cut(*contents, eval_share=0.25, min_bytes=400):
    pieces = [documents.Document(*content) for content in contents]
    return list(documents.cut_documents(pieces, eval_share=eval_share, min_bytes=min_bytes, typed="source=x"))


@settings(max_examples=50, deadline=None)
@given(st.integers(60, 400), st.floats(0.05, 0.9), st.integers(0, 3))
def test_a_text_is_cut_at_a_line_break(words, eval_share, seed):
    text = prose(words, seed=seed)
    rows = cut(("a", 0, text), eval_share=eval_share, min_bytes=100)
    head, tail = (bytes(row["tokens"]).decode() for row in rows)
    assert head + tail == text
    # The first line break after the share; in the last line the share itself.
    share = len(text) * (1 - eval_share)
    breaks = [i + 1 for i, letter in enumerate(text[:-1]) if letter == "\n" and i + 1 >= share]
    assert len(head) == (breaks[0] if breaks else int(share))


def test_text_without_a_line_break_is_cut_between_characters():
    text = "".join(chr(0x4E00 + i * i % 9999) for i in range(300))
    train, held_out = cut(("a", 0, text))
    assert bytes(train["tokens"]).decode() + bytes(held_out["tokens"]).decode() == text
    assert len(held_out["tokens"]) == pytest.approx(225, abs=3)


def test_documents_of_a_class_are_joined_wherever_they_stand():
    a, b = prose(100, seed=1), prose(100, seed=2)
    rows = cut(("x", 3, a), ("y", 4, prose(200, seed=3)), ("x", 3, b), ("x", 3, None), ("z", 5, "short"))
    parts = Counter((row["name"], row["part"]) for row in rows)
    assert parts["z", "left out"] == parts["x", "unreadable"] == 1
    text = b"".join(bytes(row["tokens"]) for row in rows if row["name"] == "x").decode()
    assert text == f"{a}\n{b}"
    assert {row["group"] for row in rows if row["name"] == "x" and row["part"] != "unreadable"} == {3}


def test_a_class_that_another_holds_in_full_is_left_out():
    text, other = prose(300, seed=1), prose(300, seed=2)
    rows = cut(("copy", 0, text), ("whole", 1, text + text), ("other", 2, other))
    assert {row["name"]: row["part"] for row in rows} == {"copy": "left out", "whole": "left out", "other": "eval"}


def test_broken_unicode_does_not_stop_anything():
    train, _ = cut(("a", 0, "\ud800" + prose(200)))
    assert bytes(train["tokens"])[:1] == b"?"
