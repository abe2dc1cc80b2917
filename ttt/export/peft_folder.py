"""Low-rank updates in the files of `peft`, and back.

ours                                   adapter_model.safetensors
model.layers.0.mlp.up_proj.lora.a_RI   base_model.model.model.layers.0.mlp.up_proj.lora_A.weight
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ttt.bases.merging import A, B
from ttt.models.pretrained import Pretrained
from ttt.storage.files import write_json

UPDATES, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
ENDS = {A: ".lora_A.weight", B: ".lora_B.weight"}


def write_updates(folder: Path, weights: Mapping[str, Tensor], *, scale: float, which: Pretrained) -> None:
    """Write the low-rank updates among `weights`, which were learned beside the model `which`."""
    place = Path(which.place())
    updates = {
        f"{PREFIX}{name.removesuffix(end)}{there}": x.detach().cpu().contiguous()
        for name, x in weights.items()
        for end, there in ENDS.items()
        if name.endswith(end)
    }
    layers = [name.removesuffix(A) for name in weights if name.endswith(A)]
    rank = len(weights[layers[0] + A])
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(place.absolute()) if place.is_dir() else str(place),
        "revision": which.revision,
        "r": rank,
        # peft divides by the rank again.
        "lora_alpha": scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": layers,
        "inference_mode": True,
    }
    # The format is part of what transformers and peft check before they read a file.
    save_file(updates, folder / UPDATES, metadata={"format": "pt"})
    write_json(folder / CONFIG, config)


def read_updates(folder: Path) -> dict[str, Tensor]:
    """The inverse of `write_updates`: updates by our names."""
    updates = {}
    for name, x in load_file(folder / UPDATES).items():
        (end,) = (end for end, there in ENDS.items() if name.endswith(there))
        updates[name.removeprefix(PREFIX).removesuffix(ENDS[end]) + end] = x
    return updates
