"""source=hf-examples: the columns of a dataset, whose labels have names of their own."""

from __future__ import annotations

import numpy as np
import pytest
from sources import build_source
from tables import news, sums, write_csv, write_jsonl


def build(path, **changes):
    return build_source("source=hf-examples", "task.seq_len=96", "model=nano", path=str(path), **changes)


def test_labels_have_the_names_that_their_feature_gives_them(tmp_path):
    import datasets

    topics = ["Sports", "World", "Business", "Science"]
    features = datasets.Features(title=datasets.Value("string"), topic=datasets.ClassLabel(names=topics))
    rows = [{"title": row["title"], "topic": topics.index(row["topic"])} for row in news()]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "news.parquet")
    source = build(tmp_path / "news.parquet", text="title", label="topic")
    assert [source.class_name(c) for c in range(4)] == topics
    written = write_csv(tmp_path / "news.csv", news())
    same = build_source("source=csv", "task.seq_len=96", "model=nano", path=str(written), text="title", label="topic")
    assert same.fingerprint == source.fingerprint
    first = build(tmp_path / "news.parquet", text="title", label="topic", max_rows=40)
    assert first.rows["train examples"] == 32


def test_prompts_with_answers_and_a_column_of_lists(tmp_path):
    rows = [row | {"more": [1, 2]} for row in sums()]
    source = build(write_jsonl(tmp_path / "sums.jsonl", rows), prompt="q", answer="a", group="kind")
    batch = source.evaluation(np.arange(2), rows=2, length=96)
    assert "0 + 0 =" not in source.show(batch.tokens_BT[0].numpy())
    with pytest.raises(ValueError, match=r"source\.prompt=more: .*list"):
        build(tmp_path / "sums.jsonl", prompt="more", answer="a")
    with pytest.raises(ValueError, match="did you mean kind"):
        build(tmp_path / "sums.jsonl", prompt="q", answer="a", group="kinds")
