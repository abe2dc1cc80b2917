"""Is a small file whole? A full disk, a dying machine or a careless hand may leave half of one.

results.json carries its own hash, `sha256`, over all else that it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ttt.config.identity import digest
from ttt.results.results import Results
from ttt.results.saved import as_json
from ttt.storage.files import write_json

SEAL = "sha256"


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises ValueError naming a file that is cut short."""
    try:
        return json.loads(file.read_bytes())
    # Brackets in brackets without end are no file of ours either.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: cut short or no JSON ({error})") from error


def read_object(file: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """A JSON file that holds an object with keys of these kinds. Raises ValueError naming it."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: no JSON object")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise ValueError(f"{file}: has no {key}")
    return content


def read_environment(file: Path) -> dict[str, Any]:
    """An environment.json. Raises ValueError naming it where it is damaged."""
    content = read_object(file, {"code": str, "data": dict})
    if not isinstance(content["data"].get("source"), str):
        raise ValueError(f"{file}: has no data.source")
    return content


def read_mapping(file: Path, keys: Iterable[str]) -> dict[str, Any]:
    """A YAML file that holds these keys. Raises ValueError naming it."""
    try:
        content = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: no YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        raise ValueError(f"{file}: holds no config")
    return content


def write_results(file: Path, results: Results) -> None:
    """Write results.json with its hash."""
    # Hashed as it will be read: JSON makes text of every key.
    content = json.loads(json.dumps(as_json(results)))
    write_json(file, {**content, SEAL: digest(content)})


def check_seal(content: Mapping[str, Any]) -> None:
    """Raise ValueError for content with a hash that is not its own."""
    rest = {key: value for key, value in content.items() if key != SEAL}
    if SEAL in content and content[SEAL] != digest(rest):
        raise ValueError("changed since it was written; the run's own command writes it anew")
