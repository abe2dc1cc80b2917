"""The names of runs and of bases: hashes over everything that determines their numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ttt.config.code_hash import code_hash
from ttt.config.version import VERSION

# Not part of what determines the numbers: where files go, who looks on, how many jobs run at once.
_SHOWN = ("experiment", "study", "references", "published")
NOT_IDENTITY = ("logger", "output_dir", "cache_dir", "report", "sweep", *_SHOWN)
_DEVICES = ("strategy", "devices", "nodes", "accumulate", "context_parallel", "accelerator")
_SAVES = ("save_every", "save_minutes", "save_task_seconds", "checkpoint")
NOT_IDENTITY_TRAINER = (*_DEVICES, "recompute", "threads", "report_every", "workers", *_SAVES)
# Settings that came later, and the value that runs had before: it leaves their names as they are.
LATER_TRAINER = {"on_divergence": "stop"}
LATER_EVAL = {"samples": 0, "exact": False}
# Of source=needle; no other source has these names.
LATER_SOURCE: dict[str, Any] = {"kind": "city", "value": None, "count": None, "others": None}
# Arguments of an adapter that act in the stream only, and the value with which a base is trained.
STREAM_ONLY = {
    "reset": "sequence",
    "carry": "mean",
    "through_writes": True,
    "write_dropout_in": "base",
    "test_rule": None,
    "test_write_at": None,
    "test_step": None,
    "test_clip": None,
}


def identity(config: Mapping[str, Any], *, data: str, weights: str = "") -> str:
    """SHA-256 of all that determines the numbers of a run.

    `data`: its source's fingerprint; `weights`: that of published weights in a folder, whose path
    then changes nothing.
    """
    content = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    content["trainer"] = {
        k: v
        for k, v in config["trainer"].items()
        if k not in NOT_IDENTITY_TRAINER and (k, v) not in LATER_TRAINER.items()
    }
    content |= {group: _without_cache(config[group]) for group in ("source", "base_source", "model") if group in config}
    content |= {group: _without_later(content[group]) for group in ("source", "base_source") if content.get(group)}
    if "eval" in config:
        content["eval"] = {k: v for k, v in config["eval"].items() if (k, v) not in LATER_EVAL.items()}
    if weights:
        del content["model"]["name"]
    return digest({"ttt": VERSION, "data": data + weights, **content})


def base_identity(config: Mapping[str, Any], *, stream_fingerprint: str, with_code: bool = True) -> str:
    """SHA-256 of all that determines a pretrained base: config, data, precision and the code.

    Without the code it is the name of a base that comes with ttt.
    """
    only = config["optimizer"].get("only")
    content = {
        **({} if only is None else {"only": only}),
        "base": config["base"],
        "model": _without_cache(config["model"]),
        "adapter": base_adapter(config["adapter"], reset=config["base"].get("reset", "sequence")),
        "stream": stream_fingerprint,
        "precision": config["trainer"]["precision"],
    }
    return digest({**content, "code": code_hash()} if with_code else content)


def base_adapter(adapter: Mapping[str, Any], *, reset: str = "sequence") -> dict[str, Any]:
    """The config of the adapter with which the base is trained, whatever its lifetime in the
    stream.

    `reset`: the lifetime in the base's training; a state that lives on there is carried as in the
    stream. An adapter whose YAML says `base: none` is attached only after the base was trained.
    """
    if adapter.get("base") == "none":
        return {"_target_": "ttt.adapters.none.NoAdapter", "name": "none"}
    fixed = STREAM_ONLY | {"reset": reset}
    if reset != "sequence":
        del fixed["carry"]
    return {key: fixed.get(key, value) for key, value in adapter.items()}


def digest(content: Any) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _without_cache(config: Mapping[str, Any]) -> dict[str, Any]:
    """A section without its cache folders, at any depth: where data is kept changes no number."""
    return {k: _without_cache(v) if isinstance(v, Mapping) else v for k, v in config.items() if k != "cache_dir"}


def _without_later(source: Mapping[str, Any]) -> dict[str, Any]:
    """A source without the settings that change nothing of what it was before they came."""
    return {k: v for k, v in source.items() if (k, v) not in LATER_SOURCE.items()}
