"""Streams by sources: every pair is shown and trained for a few steps, or refused by name."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from harness import SMALL

from ttt.cli.runs.preview import compressed, table
from ttt.run.assemble import assemble
from ttt.run.compose import compose_run
from ttt.stream import Batch, sample_text
from ttt.training.train import train

CONF = Path(__file__).parents[2] / "conf"
STREAMS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
SOURCES = sorted(path.stem for path in (CONF / "source").glob("*.yaml"))
PROBLEMS = ("rule-world", "star-graph", "arithmetic")
EXAMPLES = ("digits", "mnist", "fashion-mnist", "csv", "hf-examples")
# Streams that need running text.
NO_EXAMPLES = ("domain-sequence", "recall-sequence")
ARGUMENTS = {
    "recall-sequence": ["task.distances=[2,4]", "task.facts=[2]"],
    "label-sequence": ["task.example_len=4"],
    "text": ["source.path=texts"],
    "sotu": ["source.path=speeches", "source.years=1"],
    "fashion-mnist": ["source.path=null"],
    "csv": ["source.path=examples.jsonl", "source.text=body", "source.label=kind"],
    "hf-examples": ["source.path=examples.jsonl", "source.text=body", "source.label=kind"],
    "manuals": ["source.path=man", "source.least_bytes=2000"],
    # A needle and its question take over a hundred bytes.
    "needle": ["task.seq_len=300"],
    # Four tokens for each pair.
    "mqar": ["source.pairs=[1,2,3,4]"],
    "curriculum": ["task.num_tasks=1"],
    "hf": ["source.path=rows.jsonl", "source.text_column=body", "source.class_column=kind"],
}
# What is typed below, or has no meaning for every source.
TYPED = ("source=recall", "task.held_out=10", "task.num_tasks=3", "task.seq_len=16")


def refusal(task, source):
    """Return what the refusal of a pair begins with and names; None where the two go together."""
    if (task == "reward-sequence") != (source in PROBLEMS):
        return (f"source={source}", "reward-sequence") if source in PROBLEMS else (f"task={task}", f"source={source}")
    if task == "label-sequence" and source in ("needle", "mqar"):
        # It memorises rows of four tokens.
        return "task.seq_len=4", "needle" if source == "needle" else "pairs"
    if task in NO_EXAMPLES and source in EXAMPLES:
        return f"task={task}", f"source={source}"
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that source=text and source=hf read."""
    path = tmp_path_factory.mktemp("table")
    with (path / "rows.jsonl").open("w") as rows, (path / "examples.jsonl").open("w") as examples:
        for name in ("letters", "numbers", "words", "signs"):
            (path / "texts" / name).mkdir(parents=True)
            text = "\n".join(f"{name} {i} {i * i}" for i in range(900))
            (path / "texts" / name / "a.txt").write_text(text)
            (path / "man" / name / "man1").mkdir(parents=True)
            (path / "man" / name / "man1" / "a.1").write_text(text)
            rows.write(json.dumps({"body": text, "kind": name}) + "\n")
            examples.writelines(json.dumps({"body": f"{name} {i}", "kind": name}) + "\n" for i in range(20))
            (path / "speeches").mkdir(exist_ok=True)
            (path / "speeches" / f"{1790 + len(name)}_{name}_n.txt").write_text(text)
    return path


@pytest.mark.parametrize(("task", "source"), list(product(STREAMS, SOURCES)))
def test_streams_by_sources(task, source, folder, monkeypatch):
    monkeypatch.chdir(folder)
    typed = [f"task={task}", f"source={source}", "adapter=none", "base=none", "task.num_tasks=2", "task.seq_len=50"]
    small = [word for word in SMALL if word not in TYPED]
    config = compose_run([*small, *typed, *ARGUMENTS.get(task, []), *ARGUMENTS.get(source, [])])
    if refused := refusal(task, source):
        begins, names = refused
        with pytest.raises(ValueError, match=f"^{begins}: .*{names}"):
            assemble(config, trusted=[])
        return
    assembly = assemble(config, trusted=[])
    stream = assembly.stream
    assert table(stream).row_count == len(stream.tasks) + (stream.base is not None)
    assert sample_text(stream, stream.tasks[0]).strip()
    engine = assembly.engine(assembly.settings.fabric(), None)
    for phase in stream.phases:
        *_, last = train(engine, phase, recipe=assembly.recipe, steps=2, report_every=1)
        assert last.loss > 0


def test_lzma_tells_the_tokens_of_a_large_vocabulary_apart():
    bits_BT = torch.randint(2, (8, 512), generator=torch.Generator().manual_seed(0))
    for token in (1, 2**16):
        # An upper bound on the entropy, which is one bit.
        assert compressed([Batch(bits_BT * token, bits_BT, bits_BT)]) > 1
