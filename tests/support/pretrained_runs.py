"""Runs of a tiny pretrained model with a tokenizer of its own."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from assembling import assembled
from families import SIZES
from omegaconf import OmegaConf
from small_tokenizers import byte_level

from ttt.promises.runs import learn
from ttt.results.saved import as_json
from ttt.storage.files import write_json
from ttt.storage.run_folder import RunFolder

LENGTH = 32
# Seconds: few steps, short rows, fast weights in every layer.
QUICK = (
    "model=hf", "source=prose", "task.batch_size=2", "task.steps_per_task=4", "task.eval_sequences=2",
    f"task.seq_len={LENGTH}", "trainer.threads=1", "trainer.precision=32-true", "trainer.accelerator=cpu",
    "logger=none", "report=false", "eval.diagnostics=false",
)  # fmt: skip
CONVERT = (
    *QUICK, "task=curriculum", "task.lengths=[16,32]", "adapter=mlp_fast_convert", "adapter.chunk=4",
    "adapter.layers=null", "optimizer.only=[adapter]", "optimizer.lr=0.1",
)  # fmt: skip
UPDATES = ("strategy=lora_task", "strategy.layers=[layers]", "strategy.rank=2", "optimizer.lr=0.01")


@functools.cache
def tiny_pretrained(folder: Path) -> Path:
    """Write a Llama with tied embeddings and its tokenizer to `folder`, once, and return where."""
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = SIZES | {"vocab_size": 400, "max_position_embeddings": 1024, "tie_word_embeddings": True}
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(byte_level())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


def run_of(model: Path, folder: Path, *words: str) -> Path:
    """Learn a stream to its end, from its base, and leave a run's folder."""
    assembly, run = assembled(f"model.name={model}", *words), RunFolder(folder)
    fabric = assembly.settings.fabric()
    engine = assembly.engine(fabric, assembly.base_weights(fabric, lambda event: None))
    folder.mkdir()
    results = learn(assembly, engine, run.checkpoints, report_every=6)
    run.config.write_text(OmegaConf.to_yaml(OmegaConf.create(assembly.config)))
    write_json(run.results, as_json(results))
    return folder
