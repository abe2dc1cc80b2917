"""The table of streams and sources: every combination is previewed and trained for a few steps, or refused by name."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
from harness import SMALL
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ttt.cli.runs.preview import table
from ttt.learner import Engine
from ttt.run.assemble import assemble
from ttt.stream import sample_text
from ttt.training.train import train

CONF = Path(__file__).parents[2] / "conf"
STREAMS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
SOURCES = sorted(path.stem for path in (CONF / "source").glob("*.yaml"))
REFUSED = {
    ("domain-sequence", "digits"): "holds labelled examples; it needs corpora",
    ("domain-sequence", "mnist"): "holds labelled examples; it needs corpora",
    ("recall-sequence", "digits"): "facts are planted in running text",
    ("recall-sequence", "mnist"): "facts are planted in running text",
}
PROBLEMS = ("rule-world", "star-graph", "arithmetic")
for pair in product(STREAMS, SOURCES):
    if (pair[0] == "reward-sequence") != (pair[1] in PROBLEMS):
        REFUSED[pair] = "use task=reward-sequence" if pair[1] in PROBLEMS else "use source=rule-world, star-graph or"
OWN = {
    "recall-sequence": ["task.distances=[2,4]", "task.facts=[2]"],
    "label-sequence": ["task.example_len=4"],
    "text": ["source.path=texts"],
    "hf": ["source.path=rows.jsonl", "source.text_column=body", "source.class_column=kind"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("table")
    with (made / "rows.jsonl").open("w") as rows:
        for name in ("letters", "numbers", "words", "signs"):
            (made / "texts" / name).mkdir(parents=True)
            text = "\n".join(f"{name} {i} {i * i}" for i in range(900))
            (made / "texts" / name / "a.txt").write_text(text)
            rows.write(json.dumps({"body": text, "kind": name}) + "\n")
    return made


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("task", STREAMS)
def test_streams_by_sources(task, source, folder, monkeypatch):
    monkeypatch.chdir(folder)
    small = [o for o in SMALL if o not in ("source=recall", "task.held_out=10", "task.num_tasks=3", "task.seq_len=16")]
    typed = [f"task={task}", f"source={source}", *OWN.get(task, []), *OWN.get(source, []), "adapter=none", "base=none"]
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[*small, *typed, "task.num_tasks=2", "task.seq_len=50"])
    resolved = OmegaConf.to_container(config, resolve=True)
    if (task, source) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[task, source]):
            assemble(resolved, trusted=[])
        return
    assembly = assemble(resolved, trusted=[])
    stream = assembly.stream
    assert table(stream).row_count == len(stream.tasks) + (stream.base is not None)
    assert sample_text(stream, stream.tasks[0]).strip()
    engine = Engine.build(assembly.settings.fabric(), assembly.learner, assembly.learner.configure_optimizers())
    for phase in stream.phases:
        *_, last = train(engine, phase, steps=2, report_every=1)
        assert last.loss > 0
