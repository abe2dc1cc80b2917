"""Parse and check the words of `ttt-eval`; each mistake is one line."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from ttt.cli.parser import CommandParser, check_word

MODES = ("fast", "slow")
# The least that each number may be.
LEAST = {"limit": 1, "shots": 0, "rows": 1, "threads": 1, "seed": 0}


def eval_options(argv: list[str], *, about: str) -> argparse.Namespace:
    """Return the checked words, with `run` and `overrides` told apart.

    Raises ValueError in the user's words.
    """
    typed = eval_parser(about).parse_args(argv)
    typed.overrides = [word for word in typed.words if "=" in word and not Path(word).exists()]
    paths = [word for word in typed.words if word not in typed.overrides]
    if len(paths) + bool(typed.overrides) != 1:
        raise ValueError("say what answers: one run folder, or overrides such as model=smollm2; see ttt-eval --help")
    typed.run = Path(paths[0]) if paths else None
    typed.tasks = [task for task in typed.tasks.split(",") if task]
    if not typed.tasks:
        raise ValueError("--tasks: names no task; allowed: names as lm-eval has them, with commas between them")
    if typed.mode is not None:
        check_word("--mode", typed.mode, MODES)
    for name, least in LEAST.items():
        value = getattr(typed, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} {value}: must be at least {least}")
    typed.metadata = metadata_of(typed.metadata)
    check_places(typed)
    return typed


def eval_parser(about: str = "") -> CommandParser:
    parser = CommandParser("ttt-eval", about=about)
    add = parser.add_argument
    add("words", nargs="*", metavar="RUN", help="a run folder, or overrides as ttt-run takes them")
    add("--tasks", required=True, metavar="NAMES", help="of lm-eval, with commas between them; * stands for anything")
    add("--mode", metavar="WORD", help="fast: write while reading; slow: never (default: fast, if anything is written)")
    add("--limit", type=int, metavar="N", help="examples of each task (default: all)")
    add("--shots", type=int, metavar="N", help="solved examples before each question (default: as the task says)")
    add("--metadata", metavar="JSON", help="what tasks read of it, such as max_seq_lengths of RULER")
    add("--include-path", type=Path, metavar="DIR", help="a folder with YAML tasks of your own")
    add("--rows", type=int, default=1, metavar="N", help="requests that are read side by side (%(default)s)")
    add("--seed", type=int, metavar="N", help="of what tasks draw (default: the seeds of lm-eval)")
    add("--name", metavar="NAME", help="of the file of numbers (default: tasks, limit and mode)")
    add("--out", type=Path, metavar="FOLDER", help="where that file goes (default: RUN/evals)")
    add("--threads", type=int, default=1, metavar="N", help="of the CPU (%(default)s)")
    add("--config-dir", type=Path, metavar="DIR", help="the folder of your own modules, as in ttt-run")
    return parser


def metadata_of(text: str | None) -> dict[str, Any]:
    """The JSON object that was typed. Raises ValueError for anything else."""
    try:
        content = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"--metadata {text}: no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"""--metadata {text}: must be a JSON object, such as '{{"max_seq_lengths": [4096]}}'""")
    return content


def check_places(typed: argparse.Namespace) -> None:
    """Raise ValueError for folders that are not there, and for a name that is none."""
    for option, folder in (("--include-path", typed.include_path), ("--config-dir", typed.config_dir)):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"{option} {folder}: no such folder")
    if typed.name is not None and not re.fullmatch(r"[\w.+-]+", typed.name):
        raise ValueError(f"--name {typed.name}: must be letters, digits and . _ + -")


def file_name(typed: argparse.Namespace, *, mode: str) -> str:
    """NAME.json: other settings get other names, so that numbers do not replace one another."""
    limit = [] if typed.limit is None else [f"limit{typed.limit}"]
    shots = [] if typed.shots is None else [f"{typed.shots}shot"]
    words = "-".join(["+".join(typed.tasks).replace("*", "all"), *shots, *limit, mode])
    plain = re.sub(r"[^\w.+-]", "_", words)[:200]
    return f"{typed.name or plain}.json"
