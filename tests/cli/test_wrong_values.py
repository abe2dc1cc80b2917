"""Values and data that do not fit: the refusal names key and value, and no run folder is made."""

from __future__ import annotations

import pytest
import torch
from assembling import last_of, refusal_of, without
from commands import assert_refused
from harness import FAST, TINY, run_here

# The overrides, and what their refusal names.
WRONG = [
    (["seed=-1"], ["seed=-1", "0"]),
    (["seed=99999999999999999999"], ["seed=99999999999999999999", "2^64"]),
    ([*FAST, "eval.anytime=100"], ["eval.anytime=100"]),
    (["task.blur=0.5", "task.steps_per_task=one-pass"], ["task.steps_per_task=one-pass", "task.blur=0.5"]),
    (["strategy=joint", "strategy@also=replay"], ["strategy@also=replay", "strategy=joint"]),
    (["strategy=l2", "strategy@also=olora"], ["strategy@also=olora", "strategy=l2"]),
    (
        [*FAST, "strategy=lora_task", "strategy.per=task", "eval.anytime=1", "eval.savings=true"],
        ["eval.savings=true", "strategy=lora_task"],
    ),
    (["task.num_tasks=0"], ["task.num_tasks=0", "1"]),
    (["task.num_tasks=11"], ["task.num_tasks=11", "task.held_out=10"]),
    (["task.held_out=2000"], ["base=pretrain", "source=recall"]),
    (["task.seq_len=abc"], ["task.seq_len=abc", "integer"]),
    (["optimizer.lr=fast"], ["optimizer.lr=fast", "number"]),
    (["optimizer.lr=0"], ["optimizer.lr=0", "above 0"]),
    (["model.window=17"], ["model.window=17", "task.seq_len=16"]),
    (["model.width=15"], ["model.width=15"]),
    (["model.layers=true"], ["model.layers=true", "integer"]),
    ([*FAST, "adapter.layers=all"], ["adapter.layers=all", "indices"]),
    ([*FAST, "adapter.layers=[0,7]"], ["adapter.layers=[0, 7]", "0 .. 1"]),
    ([*FAST, "adapter.layers=[]"], ["adapter.layers=[]"]),
    ([*FAST, "adapter.rule=delt"], ["adapter.rule=delt", "did you mean delta?"]),
    (["adapter=lact_fast", "adapter.chunk=4", "adapter.heads=5"], ["adapter.heads=5"]),
    (["adapter=sgd_fast", "adapter.chunk=1"], ["adapter.chunk=1"]),
    (["adapter=lora_fast", "adapter.rank=0"], ["adapter.rank=0", "1"]),
    (["adapter=ttt_mlp", "adapter.chunk=4", "adapter.step=-1"], ["adapter.step=-1"]),
    (["adapter=prompt_fast", "adapter.vectors=0"], ["adapter.vectors=0", "1"]),
    ([*FAST, "adapter.chunk=16"], ["adapter.chunk=16", "task.seq_len=16"]),
    ([*FAST, "adapter.reset=sometimes"], ["adapter.reset=sometimes"]),
    ([*FAST, "+adapter.speed=3"], ["adapter.speed=3"]),
    # Words of a YAML that no constructor takes.
    (["+adapter.base=nonsense"], ["adapter.base=nonsense", "none"]),
    (["model.reads=vector"], ["model.reads=vector", "did you mean vectors?"]),
    (["trainer.precision=half"], ["trainer.precision=half", "bf16-mixed"]),
    (["logger=wandb", "logger.mode=sometimes"], ["logger.mode=sometimes", "offline"]),
    (["adapter._target_=os.system"], ["adapter._target_=os.system"]),
    (["adapter._target_=ttt.storage.files.os.system"], ["adapter._target_=ttt.storage.files.os.system"]),
    (["adapter._target_=ttt.storage.journal.Path"], ["adapter._target_=ttt.storage.journal.Path"]),
]


@pytest.mark.parametrize(("typed", "parts"), WRONG, ids=lambda value: value[0])
def test_wrong_values(typed, parts):
    message = refusal_of(*TINY, *typed)
    for part in parts:
        assert part in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there():
    assert "trainer.accelerator=cuda" in refusal_of(*last_of(*TINY, "trainer.accelerator=cuda"))


def test_a_wrong_value_is_one_line_and_leaves_nothing_behind(tmp_path):
    assert_refused(run_here([*TINY, *FAST, "adapter.chunk=16"], tmp_path), "adapter.chunk=16", "task.seq_len=16")
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_refused_makes_no_cache(tmp_path):
    typed = [*TINY, "adapter=none", "strategy=distill", f"cache_dir={tmp_path / 'new' / 'cache'}"]
    assert "strategy=distill" in refusal_of(*typed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        (["source=text"], ["source.path=null"]),
        (["source=text", "source.path=nowhere"], ["source.path=nowhere"]),
        (["source=text", "source.path=empty"], ["source.path=empty"]),
        (["source=text", "source.path=one"], ["base=pretrain", "source=text"]),
        (["source=text", "source.path=one", "task.classes_per_task=2"], ["source=text", "1"]),
        (["source=hf", "source.path=rows.jsonl", "source.text_column=txt"], ["source.text_column=txt"]),
        (["source=hf", "source.path=no/such-data"], ["source.path=no/such-data"]),
        (["source=languages", "task.seq_len=100000"], ["task.seq_len=100000"]),
    ],
    ids=lambda value: value[-1],
)
def test_wrong_data(typed, parts, tmp_path, monkeypatch):
    """What a user may point at that is not there, or does not fit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "only").mkdir(parents=True)
    (tmp_path / "one" / "only" / "a.txt").write_text("\n".join(f"line {i} of one class" for i in range(500)))
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "kind": "b"}\n')
    small = [*without(TINY, "source=", "task.held_out", "task.num_tasks"), "task.num_tasks=1"]
    message = refusal_of(*last_of(*small, *typed))
    for part in parts:
        assert part in message
    assert not (tmp_path / "outputs").exists()


def test_a_changed_byte_of_prepared_data_is_reported(tmp_path):
    small = without(TINY, "source=", "task.held_out", "task.num_tasks")
    typed = [*small, *FAST, "source=prose", "task.num_tasks=1", "cache_dir=cache"]
    assert run_here(["--preview", *typed], tmp_path).code == 0
    (file,) = (tmp_path / "cache" / "data").rglob("*.arrow")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert_refused(run_here(typed, tmp_path), file.name)
    assert not (tmp_path / "outputs").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert_refused(run_here([*TINY, "adapter=none", "output_dir=file/outputs"], tmp_path), "output_dir", "file/outputs")
    assert_refused(run_here([*TINY, "adapter=none", "cache_dir=file/cache"], tmp_path), "cache_dir=file/cache")
    assert (tmp_path / "file").read_text() == "in the way"
    assert not (tmp_path / "outputs").exists()
