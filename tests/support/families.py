"""Tiny random models of the families that `model=hf` is tested on, saved as their makers save them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from ttt.tasks.machinery.tokenizers import train_bpe

VOCAB = 300
# Sizes that all families share; windows are shorter than the rows of the tests.
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "mistral": ("MistralConfig", {"sliding_window": 6}),
    "gemma2": ("Gemma2Config", {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}),
    "phi3": ("Phi3Config", {}),
    "olmo2": ("Olmo2Config", {}),
    "smollm3": ("SmolLM3Config", {}),
}


@functools.cache
def saved_family(name: str, folder: Path) -> Path:
    """Write a model with random weights to `folder`, once for each session, and return where."""
    import transformers

    kind, sizes = FAMILIES[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**SIZES, **sizes))
    # Random weights of 0.02 make outputs almost alike; larger ones let differences show.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder / name)
    # Bytes and a few merges, so that source.tokenizer=model has something to read.
    text = "the quick brown fox jumps over the lazy dog and the end of the world is not near\n"
    (folder / name / "tokenizer.json").write_text(train_bpe([text * 4], symbols=VOCAB))
    return folder / name


def original(folder: Path) -> Any:
    """Return the model as transformers itself opens it."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()
