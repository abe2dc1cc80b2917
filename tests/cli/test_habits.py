"""Words from other tools are answered with ours."""

from __future__ import annotations

import pytest

from ttt.cli.runs.check import check_command
from ttt.cli.runs.parser import parse_command
from ttt.config.messages import UsageError

ANSWERS = [
    ("lr=1e-3", "optimizer.lr=0.001"),
    ("learning_rate=1e-3", "optimizer.lr=0.001"),
    ("epochs=3", "task.steps_per_task=3"),
    ("batch_size=4", "task.batch_size=4"),
    ("chunk=16", "adapter.chunk=16"),
    ("device=cuda", "trainer.accelerator=cuda"),
    ("gpus=2", "trainer.devices=2"),
    ("wandb=false", "logger=none"),
    ("dataset=code", "source=code"),
    ("num_task=3", "task.num_tasks=3"),
    ("optimizer.learning_rate=1e-3", "optimizer.lr=0.001"),
    ("strategy.lambda=10", "strategy=ewc strategy.coefficient=10"),
    ("strategy=[replay,ewc]", "strategy=replay strategy@also=ewc"),
    ("model=llama", "model=hf model.name="),
    ("adapter=deltanet", "adapter=delta_fast"),
    ("trainer=gpu", "trainer.accelerator=cuda"),
    ("seed=0-4", "seeds=5"),
    ("optimizer=AdamW", "adam"),
    ("optimizer.lr=-1", "above 0"),
]


@pytest.mark.parametrize(("word", "answer"), ANSWERS)
def test_it_names_what_to_type(word, answer):
    with pytest.raises(UsageError) as refused:
        check_command(parse_command([word]))
    assert word.partition("=")[0] in str(refused.value)
    assert answer in str(refused.value)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--lr", "1e-3"], "optimizer.lr=1e-3"),
        (["--config-name", "mine"], "--config-dir"),
        (["--experimental-rerun", "config.pickle"], "the same command again"),
        (["adapter.chunk", "=", "32"], "no spaces"),
        (["-m", "adapter=none,mlp_fast", "adapter.chunk=16,32"], "adapter=none has no 'chunk'"),
        (["-m", "optimizer.lr=1e-3,-1"], "optimizer.lr=-1"),
    ],
)
def test_whole_commands(words, answer):
    with pytest.raises(UsageError) as refused:
        check_command(parse_command(words))
    assert answer in str(refused.value)
