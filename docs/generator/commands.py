"""The page of commands: what each says with --help, and the exit codes."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import tomllib
from pathlib import Path

from ttt.cli.commands import COMMANDS
from ttt.run.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[2]


def commands_page() -> str:
    """All console commands of the package."""
    text = "# Commands\n\nWhat each command says with `--help`. `python -m ttt` lists them.\n\n"
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, place in scripts.items():
        purpose = COMMANDS[name]
        text += f"## {name}\n\n{purpose[0].upper()}{purpose[1:]}.\n\n```text\n{help_of(name, place)}\n```\n\n"
    rows = "".join(f"| {code.value} | {code.name.lower().replace('_', ' ')} |\n" for code in ExitCode)
    return f"{text}## Exit codes\n\n| code | meaning |\n|---|---|\n{rows}"


def help_of(name: str, place: str) -> str:
    """What `NAME --help` prints, 100 characters wide."""
    module, _, function = place.partition(":")
    typed, width = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = [name, "--help"], "100"
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            getattr(importlib.import_module(module), function)()
    finally:
        sys.argv = typed
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return printed.getvalue().rstrip()
