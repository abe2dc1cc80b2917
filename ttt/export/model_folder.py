"""A model of `transformers` in a folder that `from_pretrained` opens, with its tokenizer."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ttt.models.pretrained import Pretrained, library, refusing

# What a tokenizer may consist of, from one family of models or another.
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
)


def plain_model(lm: Any) -> Any:
    """Return a model of the same family and sizes without fast weights, and without memory yet."""
    # Tensors on this device have shapes and no numbers.
    with torch.device("meta"):
        plain = type(lm)(copy.deepcopy(lm.config))
    plain.generation_config = lm.generation_config
    return plain


def write_model(folder: Path, plain: Any, weights: Mapping[str, Tensor]) -> None:
    """Write `weights` as those of the model `plain`."""
    names: Collection[str] = plain.state_dict().keys()
    # assign puts tensors in place: into those without memory nothing can be copied.
    plain.load_state_dict({name: weights[name].detach() for name in names}, assign=True)
    # Assigning has parted tied weights, which would then be saved twice.
    plain.tie_weights()
    plain.save_pretrained(folder)


def copy_tokenizer(folder: Path, which: Pretrained) -> None:
    """Put the tokenizer of a published model, where it has one, into `folder`."""
    place = Path(which.place())
    if place.is_dir():
        for name in TOKENIZER:
            if (place / name).is_file():
                shutil.copyfile(place / name, folder / name)
        return
    with refusing(which):
        auto = library(which).AutoTokenizer
        auto.from_pretrained(str(place), revision=which.revision, trust_remote_code=False).save_pretrained(folder)
