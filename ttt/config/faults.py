"""What is wrong with a file of the user's own, in one line: file, line and cause."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path

import yaml


def fault_of_module(error: BaseException, folders: Iterable[Path]) -> str:
    """Why a module could not be imported, with the last line of the user's own that was reached."""
    cause = " ".join(f"{type(error).__name__}: {getattr(error, 'msg', None) or error}".split())
    # Python could not read the file, so no frame of it was reached.
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {cause}"
    below = [folder.resolve() for folder in folders]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if any(folder in Path(frame.filename).resolve().parents for folder in below)
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}: {cause}" if frames else cause


def fault_of_yaml(folder: Path) -> str:
    """The first YAML file below `folder` that cannot be read; empty if all can."""
    for path in sorted(folder.rglob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            return f"{path}{line}: {error.problem}"
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            return f"{path}: {' '.join(str(error).split())}"
        if content is not None and not isinstance(content, dict):
            return f"{path}: must hold settings (name: value), not a {type(content).__name__}"
    return ""
