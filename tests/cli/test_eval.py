"""ttt-eval as typed: what it prints and keeps, and what it refuses."""

from __future__ import annotations

import functools
import json
import sys

import commands
import pytest
from commands import assert_refused
from harness import Outcome, only_run, run_here

from ttt.cli import eval as cli_eval

TINY = ("task=split-sequence", "task.num_tasks=2", "task.steps_per_task=2", "task.seq_len=64", "task.batch_size=4",
        "base.steps=2", "model.layers=1", "model.width=16", "model.heads=2", "model.mlp_width=32", "model.window=8",
        "logger=none", "report=false", "trainer.threads=1", "trainer.precision=32-true")  # fmt: skip
# What lm-eval and its packages warn of.
lm_eval_warns = pytest.mark.filterwarnings("ignore")


def typed(*words, cwd=None) -> Outcome:
    return commands.typed(cli_eval.main, "ttt-eval", *words, cwd=cwd)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    outcome = run_here([*TINY, "adapter=mlp_fast", "adapter.chunk=8"], folder)
    assert outcome.code == 0, outcome.err
    return only_run(folder)


@pytest.fixture
def library(monkeypatch):
    """lm-eval with an index of nobody's tasks: reading that of its own takes seconds."""
    pytest.importorskip("lm_eval")
    import lm_eval.tasks

    bare = functools.partial(lm_eval.tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", bare)


@pytest.fixture
def tasks(tmp_path):
    """Two tasks of one's own: which word follows, and what is written."""
    rows = [{"q": f"number {i} is", "choices": [" red", " blue"], "gold": i % 2, "a": "red"} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    common = {"dataset_path": "json", "dataset_kwargs": {"data_files": str(tmp_path / "rows.jsonl")},
              "test_split": "train", "doc_to_text": "{{q}}"}  # fmt: skip
    choice = {"task": "my_choice", "output_type": "multiple_choice", "doc_to_choice": "{{choices}}",
              "doc_to_target": "{{gold}}", "metric_list": [{"metric": "acc"}]}  # fmt: skip
    answer = {"task": "my_answer", "output_type": "generate_until", "doc_to_target": "{{a}}",
              "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
              "metric_list": [{"metric": "exact_match"}]}  # fmt: skip
    folder = tmp_path / "tasks"
    folder.mkdir()
    for task in (choice, answer):
        # JSON is YAML too.
        (folder / f"{task['task']}.yaml").write_text(json.dumps(common | task))
    return folder


@lm_eval_warns
def test_a_run_does_tasks_of_ones_own(run, tasks, library, tmp_path):
    words = (run, "--tasks", "my_choice,my_answer", "--include-path", tasks, "--limit", 4)
    outcome = typed(*words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert not outcome.err
    (file,) = (run / "evals").iterdir()
    assert "limit4" in file.name
    assert file.stem.endswith("fast")
    assert str(file) in outcome.out
    numbers = json.loads(file.read_text())
    assert numbers["mode"] == "fast"
    assert numbers["requests"] == 4 * 2 + 4
    assert set(numbers["results"]) == {"my_choice", "my_answer"}
    assert f"{numbers['results']['my_choice']['acc,none']:.4f}" in outcome.out
    assert numbers["reader"]["adapter"] == "mlp_fast"
    assert len(numbers["reader"]["weights"]) == 64
    assert numbers["versions"]["lm_eval"]
    assert numbers["seeds"]["fewshot_random_seed"] == 1234
    slow = typed(*words, "--mode", "slow", "--name", "mine", "--seed", 5, "--out", tmp_path / "kept")
    assert slow.code == 0, slow.err
    numbers = json.loads((tmp_path / "kept" / "mine.json").read_text())
    assert numbers["mode"] == "slow"
    assert set(numbers["seeds"].values()) == {5}


@lm_eval_warns
def test_tasks_that_cannot_be_done(run, tasks, library, tmp_path):
    here = ("--include-path", tasks)
    assert_refused(typed(run, "--tasks", "my_choise", *here), "--tasks my_choise", "my_choice")
    (tmp_path / "rows.jsonl").unlink()
    assert_refused(typed(run, "--tasks", "my_choice", *here), "--tasks my_choice")
    overrides = ("task=split-sequence", "task.seq_len=64", "model.window=8", "source=languages")
    words = (*overrides, "adapter=none", "--tasks", "my_choice", *here)
    assert_refused(typed(*words, "--mode", "fast"), "--mode fast", "adapter=none")


WRONG = [
    ((), "run folder"),
    (("model=smollm2", "outputs"), "run folder"),
    (("a=b", "--tasks", ","), "--tasks"),
    (("a=b", "--tasks", "x", "--mode", "fas"), "did you mean fast"),
    (("a=b", "--tasks", "x", "--limit", 0), "--limit 0"),
    (("a=b", "--tasks", "x", "--metadata", "{"), "--metadata"),
    (("a=b", "--tasks", "x", "--metadata", "[]"), "--metadata"),
    (("a=b", "--tasks", "x", "--include-path", "nowhere"), "--include-path nowhere"),
    (("a=b", "--tasks", "x", "--name", "a/b"), "--name a/b"),
    (("a=b", "--tasks", "x", "--taks", "y"), "--tasks"),
    (("a=b",), "--tasks"),
]


@pytest.mark.parametrize(("words", "part"), WRONG)
def test_wrong_words(words, part, tmp_path):
    missing = () if "--tasks" in words or words == ("a=b",) else ("--tasks", "x")
    assert_refused(typed(*words, *missing, cwd=tmp_path), part)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert_refused(typed("a=b", "--tasks", "x"), 'pip install "lm-eval')
