"""Commands that work: questions, previews, plain output, parts of the user's own."""

from __future__ import annotations

import subprocess
import sys

from assembling import without
from commands import assert_refused
from harness import FAST, TINY, run_apart, run_here

NO_SOURCE = without(TINY, "source=", "task.held_out", "task.num_tasks")

QUESTIONS = """
import sys
from hydra.core.global_hydra import GlobalHydra
from ttt.cli.run import main

for words in (["--help"], ["--cfg", "job"], ["--info", "defaults"], ["adapter=mlpfast"]):
    GlobalHydra.instance().clear()
    sys.argv[1:] = words
    try:
        main()
    except SystemExit:
        pass
heavy = {"torch", "lightning", "wandb", "datasets", "matplotlib", "scipy"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""


def test_questions_import_nothing_heavy_and_write_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", QUESTIONS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "HEAVY []" in done.stdout, done.stderr
    for answer in ("adapter", "output_dir: outputs", "Defaults List", "did you mean mlp_fast?"):
        assert answer in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_a_preview_shows_tasks_and_samples_and_makes_no_run(tmp_path):
    typed = [*NO_SOURCE, "task.num_tasks=3", "task=permuted-sequence", "source=digits"]
    outcome = run_here(["--preview", *typed, "task.seq_len=67"], tmp_path)
    assert outcome.code == 0, outcome.err
    for word in ("permutation 1", "domain-incremental", "1,438 train examples", "digit 3", "██"):
        assert word in outcome.out
    assert not (tmp_path / "outputs").exists()


def test_output_that_is_no_terminal_is_plain_lines(tmp_path):
    outcome = run_apart([*TINY, *FAST], tmp_path)
    assert outcome.code == 0
    assert "\x1b" not in outcome.out + outcome.err
    assert sum(line.startswith("task ") for line in outcome.out.splitlines()) == 3
    assert max(map(len, outcome.out.splitlines())) <= 200
    assert outcome.err == ""


def test_parts_of_ones_own(tmp_path):
    """One file and one YAML, in a folder of the user's."""
    (tmp_path / "mine" / "adapter").mkdir(parents=True)
    (tmp_path / "mine" / "adapter" / "mine.yaml").write_text("_target_: my_parts.Mine\nname: mine\n")
    (tmp_path / "mine" / "my_parts.py").write_text(
        "from ttt.adapters.none import NoAdapter\n\n\nclass Mine(NoAdapter):\n    pass\n"
    )
    outcome = run_here([*TINY, "--config-dir", "mine", "adapter=mine"], tmp_path)
    assert outcome.code == 0, outcome.err
    assert list(tmp_path.glob("outputs/split-sequence/mine-naive-adamw/seed0-*/results.json"))
    # The same module is not trusted when nobody named its folder.
    sys.path.append(str(tmp_path / "mine"))
    try:
        outcome = run_here([*TINY, "adapter._target_=my_parts.Mine"], tmp_path)
    finally:
        sys.path.remove(str(tmp_path / "mine"))
    assert_refused(outcome, "adapter._target_=my_parts.Mine")


HAIKU = """
from dataclasses import dataclass
from typing import ClassVar
from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document

@dataclass(kw_only=True, eq=False)
class OwnHaiku(Corpus):
    lines: int
    min_bytes: ClassVar[int] = 100

    def documents(self):
        for k, name in enumerate(("frog", "pond", "moon", "snow")):
            yield Document(name, k, "\\n".join(f"{name} {i} jumps {i * k}" for i in range(self.lines)))

    def recipe(self):
        return {"lines": self.lines}
"""


def test_a_source_of_ones_own_is_one_file_and_one_yaml(tmp_path):
    (tmp_path / "mine" / "source").mkdir(parents=True)
    (tmp_path / "mine" / "own_haiku.py").write_text(HAIKU)
    (tmp_path / "mine" / "source" / "haiku.yaml").write_text(
        "defaults: [/corpus@_here_, _self_]\n_target_: own_haiku.OwnHaiku\nname: haiku\nlines: 200\n"
    )
    typed = ["--config-dir=mine", *NO_SOURCE, "adapter=none", "task.num_tasks=2", "source=haiku", "source.lines=300"]
    assert run_here(typed, tmp_path).code == 0
    assert (tmp_path / "outputs" / "split-sequence").is_dir()
    assert_refused(run_here([*typed, "source.lines=many"], tmp_path), "source.lines=many", "integer")


def test_where_parts_of_ones_own_are_looked_for_is_said(tmp_path):
    (tmp_path / "mine/adapter").mkdir(parents=True)
    (tmp_path / "mine/adapter/bias.yaml").write_text("_target_: bias.Bias\nname: bias\n")
    assert_refused(run_here(["adapter=bias"], tmp_path), "adapter=bias", "--config-dir FOLDER")
    assert_refused(run_here(["adapter=bias", "--config-dir", "mine/adapter"], tmp_path), "name the one above it, mine")


def test_a_part_of_ones_own_is_never_taken_for_one_of_ours(tmp_path):
    (tmp_path / "mine/adapter").mkdir(parents=True)
    (tmp_path / "mine/adapter/wide.yaml").write_text("_target_: bias.Bias\nname: wide\n")
    outcome = run_here(["adapter=wide", "--config-dir", "mine"], tmp_path)
    assert_refused(outcome, "mine/adapter/wide.yaml", "adapter=wide is a part of ttt")
