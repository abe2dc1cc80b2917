"""Write the reference pages of the site from the project itself.

    python docs/generator/reference.py [FOLDER]        by default docs/reference

Options and settings come from the comments of `conf/`, allowed values from annotations, commands
from their own --help, metrics from the catalogue, and Python's interface from docstrings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from commands import commands_page
from experiments import experiments_page
from metrics import metrics_page
from options import GROUPS, group_page, run_page
from python_api import python_page

HERE = Path(__file__).resolve().parent

INDEX = """# Reference

Everything below is generated from the project itself when this site is built: options and settings
from the comments of `conf/`, allowed values from the annotations of the classes, commands from
their own `--help`.

| page | what it holds |
|---|---|
"""


def pages() -> dict[str, str]:
    """File name -> its Markdown."""
    groups = {f"{group}.md": group_page(group) for group in GROUPS}
    others = {
        "run.md": run_page(),
        "experiments.md": experiments_page(),
        "commands.md": commands_page(),
        "metrics.md": metrics_page(),
        "python.md": python_page(),
    }
    return {"index.md": index(others | groups), **others, **groups}


def index(written: dict[str, str]) -> str:
    """The first page: a line for each of the others."""
    return INDEX + "".join(
        f"| [{_title(text)}]({name}) | {_first_sentence(text)} |\n" for name, text in written.items()
    )


def main(words: Iterable[str]) -> None:
    """Write all pages into the folder that was typed."""
    to = Path(next(iter(words), HERE.parent / "reference"))
    to.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (to / name).write_text(text)


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[1].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


if __name__ == "__main__":
    main(sys.argv[1:])
