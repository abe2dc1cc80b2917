"""A run of a pretrained model as a folder that other programs open, and that folder as a learner.

config.json  model.safetensors  tokenizer ...      what `transformers` opens; or, with low-rank
adapter_config.json  adapter_model.safetensors     updates that are not merged, what `peft` opens
fast_weights.json  fast_weights.safetensors        the adapter: its settings and parameters
fast_state.safetensors                             its state after the stream, where one lived on
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ttt.adapters.base import ordered
from ttt.adapters.evolving import Evolving
from ttt.bases.merging import has_updates, merged, scale_of_updates, without_updates
from ttt.config.version import VERSION
from ttt.export.model_folder import copy_tokenizer, plain_model, write_model
from ttt.export.peft_folder import UPDATES, read_updates, write_updates
from ttt.export.readme import readme
from ttt.learner import Learner
from ttt.models.hf import HfModel
from ttt.models.pretrained import Pretrained
from ttt.run.open import OpenedRun, config_to_open, open_run
from ttt.run.parts import build_adapter, build_model, build_optimizer, build_strategy
from ttt.storage.absent import check_is_new
from ttt.storage.files import write_bytes, write_json

SETTINGS, PARAMETERS, STATE = "fast_weights.json", "fast_weights.safetensors", "fast_state.safetensors"
# The name of the model of transformers inside `HfModel`.
INSIDE = "lm."
# The sections of the config from which an opened folder is put together.
SECTIONS = ("model", "adapter", "optimizer", "strategy", "also")


def export(path: Path, *, to: Path, merge: bool, trusted: Sequence[Path]) -> None:
    """Write the run in folder `path` to the new folder `to`.

    `merge`: add low-rank updates to the matrices. Raises ValueError in the user's words.
    """
    check_is_new(to, option="--to")
    config = config_to_open(path)
    if config["model"]["_target_"] != f"{HfModel.__module__}.{HfModel.__qualname__}":
        raise ValueError(f"{path}: model={config['model']['name']}: only pretrained models (hf, smollm2) are exported")
    run = open_run(path, trusted=trusted)
    if isinstance(run.learner.adapter, Evolving):
        raise ValueError(f"{path}: adapter={run.adapter}: its fast weights are prompts, which no model folder holds")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that a folder appears under its name only when it is whole.
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as temporary:
            part = Path(temporary) / "whole"
            part.mkdir()
            _write(part, run, merge=merge)
            # Temporary files are their owner's alone; an exported folder may be shared.
            part.chmod(0o755)
            for file in part.iterdir():
                file.chmod(0o644)
            # A rename replaces an empty folder of that name, and no other.
            part.replace(to)
    except OSError as error:
        raise ValueError(f"--to {to}: cannot be written: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def open_exported(folder: Path, *, trusted: Sequence[Path] = ()) -> Learner:
    """Return the learner in an exported folder, ready to read.

    Raises ValueError for what is no such folder.
    """
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"{folder}: no folder that ttt-export wrote (it has no {SETTINGS})")
    content: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
    is_whole = not (folder / UPDATES).is_file()
    # A folder with updates alone has no model: that one is read from where it was published.
    place = {"name": str(folder), "revision": None} if is_whole else {}
    model = build_model(content["model"] | place, sizes=content["sizes"], trusted=trusted)
    adapter = build_adapter(content["adapter"], layout=None, trusted=trusted)
    learner = Learner(model, adapter=adapter, optimizer=build_optimizer(content["optimizer"], trusted)[0])
    weights = load_file(folder / PARAMETERS)
    if not is_whole:
        build_strategy(content, trusted).attach(model)
        weights |= {f"{INSIDE}{name}": x for name, x in read_updates(folder).items()}
    _, unknown = model.load_state_dict(weights, strict=False)
    if unknown:
        raise ValueError(f"{folder}: written by other code (ttt {content['ttt']}): {unknown[0]} is only there")
    if (folder / STATE).is_file():
        learner.fast = ordered(load_file(folder / STATE), like=adapter.initial())
    return learner.eval()


def _write(folder: Path, run: OpenedRun, *, merge: bool) -> None:
    """Write all files of an exported folder. Raises ValueError where the run does not allow it."""
    section = run.config["model"]
    which = Pretrained(section["name"], revision=section["revision"], cache_dir=section["cache_dir"])
    model: Any = run.learner.model
    plain = plain_model(model.lm)
    # These names are known to transformers: all other parameters came with the adapter.
    inside = {f"{INSIDE}{name}" for name in plain.state_dict()}
    weights: Mapping[str, Tensor] = {name: x.detach().cpu() for name, x in model.named_parameters()}
    scale = scale_of_updates(run.config) if has_updates(weights) else None
    if scale is not None and not merge:
        changed = sorted(inside & weights.keys() - model.unchanged())
        if changed:
            raise ValueError(f"{changed[0]} is not as published: updates alone would not be enough; use --merge")
        write_updates(folder, _stripped(weights), scale=scale, which=which)
    else:
        weights = weights if scale is None else merged(weights, initial=weights, scale=scale)
        write_model(folder, plain, model.lm.state_dict() | _stripped(weights))
    copy_tokenizer(folder, which)
    # safetensors saves no tensor whose numbers lie apart.
    brought = {name: x.contiguous() for name, x in without_updates(weights).items() if name not in inside}
    save_file(brought, folder / PARAMETERS)
    state = run.learner.fast
    if any(bool(x.any()) for x in state.values()):
        save_file({name: x.detach().cpu().contiguous() for name, x in state.items()}, folder / STATE)
    content = {name: run.config.get(name) for name in SECTIONS}
    write_json(folder / SETTINGS, {"ttt": VERSION, "sizes": {"vocab_size": run.stream.vocab_size}} | content)
    write_bytes(folder / "README.md", readme(run, which, is_whole=scale is None or merge).encode())


def _stripped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by the names that transformers knows them by."""
    return {name.removeprefix(INSIDE): x for name, x in weights.items()}
