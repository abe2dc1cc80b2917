"""From a resolved config to objects, refusing in one line what does not fit.

A group's YAML names its class in `_target_`; the class's own annotations say what each argument may be.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ttt import __version__
from ttt.config.code_hash import code_hash

# Not part of what determines the numbers: where files go, who looks on, how many jobs run at once.
_SHOWN = ("experiment", "study", "references", "published")
NOT_IDENTITY = ("logger", "output_dir", "cache_dir", "report", "sweep", *_SHOWN)
_DEVICES = ("strategy", "devices", "nodes", "accumulate", "accelerator")
NOT_IDENTITY_TRAINER = (*_DEVICES, "threads", "report_every", "workers")
# What every base is trained by; and, of an adapter's arguments that act in the stream only, with these.
BASE_OBJECTIVE = {"_target_": "ttt.objectives.next_token.NextToken", "name": "next_token"}
STREAM_ONLY = {"reset": "sequence", "carry": "mean", "through_writes": True}


def build(
    config: Mapping[str, Any],
    *,
    group: str,
    given: Mapping[str, Any],
    trusted: Iterable[Path],
    offered: Mapping[str, Any] | None = None,
) -> Any:
    """Call the class that `config` names with its other keys, `given`, and what it takes of `offered`.

    Raises ValueError in the user's words: unknown argument, wrong type, or a target that is neither ours
    nor defined below one of the `trusted` folders.
    """
    target = locate(str(config.get("_target_", "")), group=group, trusted=trusted)
    arguments = {key: value for key, value in config.items() if key != "_target_"} | dict(given)
    arguments = {key: _nested(value, group=f"{group}.{key}", trusted=trusted) for key, value in arguments.items()}
    parameters = [name for name in inspect.signature(target).parameters]
    taken = {name: value for name, value in (offered or {}).items() if name in parameters}
    typed = [name for name in parameters if name not in taken]
    hints = typing.get_type_hints(target.__init__)  # type: ignore[misc]
    for key, value in arguments.items():
        if key not in typed:
            raise ValueError(f"{group}.{key}={value}: unknown; {suggest(key, typed)}")
        if not fits(value, hints.get(key, object)):
            raise ValueError(f"{group}.{key}={show(value)}: must be {describe(hints[key])}")
    arguments = {key: float(value) if hints.get(key) is float else value for key, value in arguments.items()}
    missing = [
        name
        for name, parameter in inspect.signature(target).parameters.items()
        if name not in arguments and name not in taken and parameter.default is parameter.empty
    ]
    if missing:
        raise ValueError(f"{group}.{missing[0]}: missing; {group}={config.get('name')} needs it")
    return target(**arguments, **taken)


def _nested(value: Any, *, group: str, trusted: Iterable[Path]) -> Any:
    """A mapping that names a class is built, wherever it stands: a source may be made of sources."""
    if not isinstance(value, Mapping):
        return value
    if "_target_" in value:
        return build(value, group=group, given={}, trusted=trusted)
    return {key: _nested(inner, group=f"{group}.{key}", trusted=trusted) for key, inner in value.items()}


def locate(path: str, *, group: str, trusted: Iterable[Path]) -> type:
    """The class at a dotted path. Code from elsewhere is not run: a config may come from a stranger."""
    module_name, _, name = path.rpartition(".")
    if not module_name.startswith("ttt."):
        file = module_name.replace(".", "/") + ".py"
        if not module_name or not any((folder / file).is_file() for folder in trusted):
            raise ValueError(
                f"{group}._target_={path}: must be a class of ttt, or of a module in the folder of --config-dir"
            )
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{group}._target_={path}: {error}") from error
    # A name that a module merely imported is not its own.
    if not inspect.isclass(found) or found.__module__ != module_name:
        raise ValueError(f"{group}._target_={path}: not a class defined there")
    return found


def fits(value: Any, hint: Any) -> bool:
    """Is `value` one of what `hint` allows? An int serves as a float, a bool never as a number."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(fits(item, typing.get_args(hint)[0]) for item in value)
    if origin is typing.Literal:
        # Which values are allowed is said by the class, with what they mean.
        return isinstance(value, str)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    return True


def describe(hint: Any) -> str:
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    names |= {list[int]: "a list of integers", list[str]: "a list of names"}
    return " or ".join(names.get(option, str(option)) for option in options)


def show(value: Any) -> str:
    """As one would type it."""
    return value if isinstance(value, str) else json.dumps(value)


def suggest(word: str, allowed: Iterable[str]) -> str:
    """`did you mean x?` if anything is near, and what is allowed."""
    allowed = sorted(allowed)
    near = difflib.get_close_matches(word.replace("_", "-"), [a.replace("_", "-") for a in allowed], n=1, cutoff=0.5)
    hint = next((f"did you mean {a}? " for a in allowed if near and a.replace("_", "-") == near[0]), "")
    return f"{hint}allowed: {', '.join(allowed)}"


def _without_cache(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _without_cache(v) if isinstance(v, Mapping) else v for k, v in config.items() if k != "cache_dir"}


def identity(config: Mapping[str, Any], *, data: str) -> str:
    """SHA-256 of all that determines the numbers of a run; `data`: the fingerprint of its source."""
    kept = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    kept["trainer"] = {k: v for k, v in config["trainer"].items() if k not in NOT_IDENTITY_TRAINER}
    kept["source"] = _without_cache(config["source"])
    return digest({"ttt": __version__, "data": data, **kept})


def base_identity(config: Mapping[str, Any], *, stream_fingerprint: str) -> str:
    """SHA-256 of all that determines a pretrained base: config, data, precision and the code itself."""
    kept = {
        "base": config["base"],
        "model": config["model"],
        "adapter": base_adapter(config["adapter"]),
        "stream": stream_fingerprint,
        "precision": config["trainer"]["precision"],
        "code": code_hash(),
    }
    return digest(kept)


def base_adapter(adapter: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter as the base is trained with it, whatever its lifetime in the stream; one with `base: none` is not
    there yet."""
    if adapter.get("base") == "none":
        return {"_target_": "ttt.adapters.none.NoAdapter", "name": "none"}
    return {key: STREAM_ONLY.get(key, value) for key, value in adapter.items()}


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
