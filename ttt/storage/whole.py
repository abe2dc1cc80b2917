"""Is a small file whole? A full disk, a dying machine or a careless hand may leave half of one.

results.json carries its own hash, `sha256`: of its text up to there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ttt.config.identity import digest
from ttt.config.kinds import mismatch
from ttt.results.definitions import COSTS
from ttt.results.results import Results
from ttt.results.saved import as_json, from_json
from ttt.results.written import from_text
from ttt.storage.content import Config, Environment, Status
from ttt.storage.files import write_bytes

SEAL = "sha256"


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises ValueError naming a file that is cut short."""
    return _decoded(file.read_bytes(), file)


def _decoded(data: bytes, file: Path) -> Any:
    try:
        return json.loads(data)
    # Brackets in brackets without end are no file of ours either.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: cut short or no JSON ({error})") from error


def read_object(file: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """A JSON file that holds an object with keys of these kinds. Raises ValueError naming it."""
    return _object(read_json(file), kinds, file)


def _object(content: Any, kinds: Mapping[str, type], file: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{file}: no JSON object")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise ValueError(f"{file}: has no {key}")
    return content


def read_whole(file: Path, kind: Any) -> Any:
    """A JSON file of this kind, as in ttt.config.kinds. Raises ValueError naming it."""
    content = read_json(file)
    fault = mismatch(content, kind)
    if fault:
        raise ValueError(f"{file}: {fault}")
    return content


def read_status(file: Path) -> dict[str, Any]:
    """A status.json: how the run stands, and what it took. Raises ValueError naming it."""
    content: dict[str, Any] = read_whole(file, Status)
    fault = mismatch({key: content[key] for key in COSTS if key in content}, dict[str, float])
    if fault:
        raise ValueError(f"{file}: {fault}")
    return {key: value for key, value in content.items() if value is not None}


def read_environment(file: Path) -> dict[str, Any]:
    """An environment.json. Raises ValueError naming it where it is damaged."""
    content: dict[str, Any] = read_whole(file, Environment)
    if "code" not in content:
        raise ValueError(f"{file}: has no code")
    if "source" not in content.get("data", {}):
        raise ValueError(f"{file}: has no data.source")
    return content


def check_config_file(file: Path) -> None:
    """Raise ValueError naming a config.yaml that is damaged."""
    try:
        content = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: no YAML ({str(error).splitlines()[0]})") from error
    fault = mismatch(content, Config)
    if fault:
        raise ValueError(f"{file}: {fault}")


def write_results(file: Path, results: Results) -> None:
    """Write results.json with its hash."""
    text = _text(as_json(results))
    write_bytes(file, text.encode() + _seal(_hash(text.encode())))


def _seal(digest: str) -> bytes:
    """The end of a results.json, behind its text."""
    return f',\n  "{SEAL}": "{digest}"\n}}\n'.encode()


def _text(content: Mapping[str, Any]) -> str:
    """The text of a results.json up to its hash."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")


def _hash(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _end_as_written(data: bytes) -> int:
    """Where the text of a results.json ends if it is letter by letter as it was written; else 0."""
    end = data.rfind(f',\n  "{SEAL}": "'.encode())
    # A view, since a slice would be a copy of nearly all of it.
    return end if end > 0 and data[end:] == _seal(_hash(memoryview(data)[:end])) else 0


def read_results_file(file: Path) -> Results:
    """A results.json. Raises ValueError naming one that is damaged, or of another version."""
    data = file.read_bytes()
    # Of a thousand files that nobody has touched the checks would take longer than all else.
    end = _end_as_written(data)
    content = {} if end else _object(_decoded(data, file), {"rows": list}, file)
    try:
        if end:
            return from_text(data, end=end)
        check_seal(content)
        return from_json(content)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(f"{file}: {error}") from error


def check_seal(content: Mapping[str, Any]) -> None:
    """Raise ValueError for content with a hash that is not its own."""
    if SEAL not in content:
        return
    rest = {key: value for key, value in content.items() if key != SEAL}
    # Another layout is no change; earlier versions sorted the keys.
    if content[SEAL] not in (_hash(_text(rest).encode()), digest(rest)):
        raise ValueError("changed since it was written; the run's own command writes it anew")
