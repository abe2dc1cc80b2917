"""What a user types, right and wrong: one clear line, exit code 2, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from harness import FAST, SMALL, TINY, run_apart, run_here

WRONG = [
    (["task=split_sequnce"], "task=split_sequnce: unknown; did you mean split-sequence?"),
    (["adapter=mlpfast"], "adapter=mlpfast: unknown; did you mean mlp_fast?"),
    (["-m", "adapter=none,mlp_fats"], "adapter=mlp_fats: unknown; did you mean mlp_fast?"),
    (["adaptr=none"], "adaptr=none: no 'adaptr'; did you mean adapter?"),
    (["adapter.chnk=16"], "adapter.chnk=16: no 'chnk' in adapter; did you mean chunk?"),
    (["optimizer.learning_rate=1"], "optimizer.learning_rate=1: no 'learning_rate' in optimizer"),
    (["adapter=none", "adapter.chunk=16"], "adapter.chunk=16: no 'chunk' in adapter; it has no settings"),
    (["seed=abc"], "seed=abc: must be an integer"),
    (["adapter=null"], "adapter=null: unknown; "),
    (["experiment=null"], "experiment=null: unknown; "),
    (["eval=3"], "eval=3: is a section; set eval.NAME, of every, tasks,"),
    (["sweep=null"], "sweep=null: is a section; set sweep.NAME"),
    (["published=3"], "published=3: published values stand in experiment/NAME.yaml"),
    (["strategy=null"], "strategy=null: unknown; "),
    (["seed="], "seed=: must be an integer"),
    (["seed=0,1"], "seed=0,1: several values are a sweep, which needs -m"),
    (["~adapter"], "~adapter: settings cannot be deleted"),
    (["output_dir="], "output_dir=: must name a folder"),
    (["+sed=1"], "+sed=1: no 'sed'; did you mean seed?"),
    (["a b"], "a b: cannot be read as name=value pairs"),
    (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
    (["--sead", "1"], "unrecognized arguments: --sead; see ttt-run --help"),
    (["-m", "--cfg", "job"], "-m goes with neither --cfg, --info nor --preview"),
]
# These need the classes, so torch.
WRONG_VALUES = [
    (["seed=-1"], "seed=-1: must be at least 0"),
    (["seed=99999999999999999999"], "seed=99999999999999999999: must be at least 0, and below 2^64"),
    ([*FAST, "eval.anytime=100"], "eval.anytime=100: nothing is measured inside tasks of"),
    (["task.blur=0.5", "task.steps_per_task=one-pass"], "task.steps_per_task=one-pass: with task.blur=0.5 rows of"),
    (["strategy=joint", "strategy@also=replay"], "strategy@also=replay: does not go with strategy=joint: what is"),
    (
        ["strategy=l2", "strategy@also=olora"],
        "strategy@also=olora: does not go with strategy=l2: parameters that are new",
    ),
    (
        [*FAST, "strategy=lora_task", "strategy.per=task", "eval.anytime=1", "eval.savings=true"],
        "eval.savings=true: strategy=lora_task has weights for each task",
    ),
    (["task.num_tasks=0"], "task.num_tasks=0: must be at least 1"),
    (["task.num_tasks=11"], "task.held_out=10 keeps only 10"),
    (["task.held_out=2000"], "base=pretrain: task=split-sequence leaves no class of source=recall"),
    (["task.seq_len=abc"], "task.seq_len=abc: must be an integer"),
    (["optimizer.lr=fast"], "optimizer.lr=fast: must be a number"),
    (["optimizer.lr=0"], "optimizer.lr=0: must be above 0"),
    (["model.window=17"], "model.window=17: must lie between 1 and task.seq_len=16"),
    (["model.width=15"], "model.width=15: must be a multiple of"),
    (["model.layers=true"], "model.layers=true: must be an integer"),
    (["adapter.layers=all"], "adapter.layers=all: must be a list of integers or null"),
    ([*FAST, "adapter.layers=[0,7]"], "adapter.layers=[0, 7]: layer 7 is not one of 0 .. 1"),
    ([*FAST, "adapter.layers=[]"], "adapter.layers=[]: must name at least one layer"),
    ([*FAST, "adapter.rule=delt"], "adapter.rule=delt: "),
    (["adapter=lact_fast", "adapter.chunk=4", "adapter.heads=5"], "adapter.heads=5: "),
    (["adapter=sgd_fast", "adapter.chunk=1"], "adapter.chunk=1: "),
    (["adapter=lora_fast", "adapter.rank=0"], "adapter.rank=0: "),
    (["adapter=ttt_mlp", "adapter.chunk=4", "adapter.step=-1"], "adapter.step=-1: "),
    (["adapter=prompt_fast", "adapter.vectors=0"], "adapter.vectors=0: "),
    ([*FAST, "adapter.chunk=16"], "adapter.chunk=16: must be below task.seq_len=16"),
    ([*FAST, "adapter.reset=sometimes"], "adapter.reset=sometimes: "),
    ([*FAST, "+adapter.speed=3"], "adapter.speed=3: unknown"),
    (["trainer.precision=half"], "trainer.precision=half: must be one of"),
    (["trainer.accelerator=cuda"], "trainer.accelerator=cuda: no CUDA device here"),
    (["logger=wandb", "logger.mode=sometimes"], "logger.mode=sometimes: must be one of"),
    (["adapter._target_=os.system"], "adapter._target_=os.system: must be a class of ttt"),
    (["adapter._target_=ttt.storage.files.os.system"], "adapter._target_=ttt.storage.files.os.system"),
    (
        ["adapter._target_=ttt.storage.journal.Path"],
        "adapter._target_=ttt.storage.journal.Path: not a class defined there",
    ),
]


@pytest.mark.parametrize(("args", "message"), WRONG)
def test_wrong_words(args, message, tmp_path):
    outcome = run_here(args, tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith(f"ttt-run: {message}")
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("args", "message"), WRONG_VALUES)
def test_wrong_values(args, message, tmp_path):
    if "cuda" in args[0]:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device here")
    outcome = run_here([*TINY, *args], tmp_path)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["source=text"], "source.path=null"),
        (["source=text", "source.path=nowhere"], "source.path=nowhere: no such folder"),
        (["source=text", "source.path=empty"], "source.path=empty"),
        (["source=text", "source.path=one"], "base=pretrain: task=split-sequence leaves no class of source=text"),
        (["source=text", "source.path=one", "task.classes_per_task=2"], "source=text has only 1"),
        (["source=hf", "source.path=rows.jsonl", "source.text_column=txt"], "source.text_column=txt"),
        (["source=hf", "source.path=no/such-data"], "source.path=no/such-data: no such file here, and the hub"),
        (["source=languages", "task.seq_len=100000"], "task.seq_len=100000: longer than"),
        (["source=lanugages"], "source=lanugages: unknown; did you mean languages?"),
    ],
)
def test_wrong_data(args, message, tmp_path):
    """What a user may point at that is not there, or does not fit: one line, code 2, no run folder."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "only").mkdir(parents=True)
    (tmp_path / "one" / "only" / "a.txt").write_text("\n".join(f"line {i} of one class" for i in range(2000)))
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "kind": "b"}\n')
    small = [o for o in TINY if o not in ("source=recall", "task.held_out=10", "task.num_tasks=3")]
    outcome = run_here([*small, "task.num_tasks=1", *args], tmp_path)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_a_changed_byte_of_prepared_data_is_reported(tmp_path):
    small = [o for o in TINY if o not in ("source=recall", "task.held_out=10")]
    typed = [*small, *FAST, "source=prose", "task.num_tasks=1", "cache_dir=cache"]
    assert run_here(["--preview", *typed], tmp_path).code == 0
    (file,) = (tmp_path / "cache" / "data").rglob("*.arrow")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    outcome = run_here(typed, tmp_path)
    assert outcome.code == 2
    assert "changed since it was prepared; delete" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_a_preview_shows_tasks_and_samples_and_makes_no_run(tmp_path):
    small = [o for o in TINY if o not in ("source=recall", "task.held_out=10")]
    outcome = run_here(["--preview", *small, "task=permuted-sequence", "source=digits", "task.seq_len=67"], tmp_path)
    assert outcome.code == 0, outcome.err
    for word in ("permutation 1", "domain-incremental", "1,438 train examples", "digit 3", "██"):
        assert word in outcome.out
    assert not (tmp_path / "outputs").exists()


def test_missing_checkpoints(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("not tensors")
    for path, message in (
        ("nowhere", "base.path=nowhere: no such file or folder"),
        ("empty", "base.path=empty: holds no usable checkpoint"),
        ("text.safetensors", "base.path=text.safetensors: not a safetensors file"),
    ):
        outcome = run_here([*SMALL, "base=checkpoint", f"base.path={path}"], tmp_path)
        assert outcome.code == 2
        assert message in outcome.err
    outcome = run_here([*SMALL, "base=checkpoint"], tmp_path)
    assert "base=checkpoint needs base.path" in outcome.err
    assert not (tmp_path / "outputs").exists()


def test_an_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    outcome = run_here([*TINY, "adapter=none", "output_dir=file/outputs"], tmp_path)
    assert outcome.code == 2
    assert "output_dir: cannot write to file/outputs" in outcome.err
    outcome = run_here([*TINY, "adapter=none", "cache_dir=file/cache"], tmp_path)
    assert outcome.code == 2
    assert "cache_dir=file/cache: cannot be made" in outcome.err
    assert (tmp_path / "file").read_text() == "in the way"
    assert not (tmp_path / "outputs").exists()


def test_as_a_subprocess_too(tmp_path):
    outcome = run_apart(["adapter=mlpfast"], tmp_path)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "did you mean mlp_fast?" in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("args", [["--help"], ["--cfg", "job"], ["--info", "defaults"], ["adapter=mlpfast"]])
def test_questions_import_nothing_heavy_and_write_nothing(args, tmp_path):
    program = (
        "import atexit, sys\n"
        "heavy = {'torch', 'lightning', 'wandb', 'datasets', 'matplotlib', 'scipy'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules))))\n"
        "from ttt.cli.run import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", program, *args]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "HEAVY []" in done.stdout
    assert not list(tmp_path.iterdir())


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
    assert outcome.code == 0
    assert list(tmp_path.glob("outputs/split-sequence/mine-naive-adamw/seed0-*/results.json"))
    # The same module is not trusted when nobody named its folder.
    sys.path.append(str(tmp_path / "mine"))
    try:
        outcome = run_here([*TINY, "adapter._target_=my_parts.Mine"], tmp_path)
    finally:
        sys.path.remove(str(tmp_path / "mine"))
    assert "must be a class of ttt" in outcome.err


def test_readme_commands_are_real():
    """Every ttt-run line of the README composes."""
    from ttt.cli.runs.check import arguments, check_command
    from ttt.cli.sweeps.study import expand

    root = Path(__file__).parents[2]
    text = (root / "README.md").read_text()
    lines = [line.strip().split("#")[0].split() for line in text.splitlines() if line.strip().startswith("ttt-run ")]
    assert len(lines) >= 3
    for line in lines:
        if "--config-dir" not in line and "wandb" not in line:
            for typed in expand(arguments(line[1:])):
                check_command(typed)
    makefile = (root / "Makefile").read_text()
    for command in ("make run", "make test"):
        assert command in text
        assert f"\n{command.split()[1]}:" in makefile


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
    small = [o for o in TINY if o not in ("source=recall", "task.held_out=10", "task.num_tasks=3")]
    typed = ["--config-dir=mine", *small, "adapter=none", "task.num_tasks=2", "source=haiku", "source.lines=300"]
    assert run_here(typed, tmp_path).code == 0
    assert (tmp_path / "outputs" / "split-sequence").is_dir()
    outcome = run_here([*typed, "source.lines=many"], tmp_path)
    assert outcome.code == 2
    assert "source.lines=many: must be an integer" in outcome.err
