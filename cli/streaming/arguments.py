"""Parse and check the words of `ttt-stream`; each mistake is one line."""

from __future__ import annotations

import argparse
from pathlib import Path

from ttt.cli.parser import CommandParser, check_word
from ttt.cli.streaming.inputs import STDIN, check_files
from ttt.storage.run_folder import RunFolder

NEVER = "never"
STARTS = ("initial", "carried")
# The least that each number may be.
LEAST = {"block": 1, "window": 1, "lanes": 1, "context": 1, "threads": 1, "memory": 1, "say": 1, "top_k": 1}


def stream_options(argv: list[str], *, about: str) -> argparse.Namespace:
    """Return the checked words, with `run`, `overrides` and `files` told apart.

    Raises ValueError in the user's words.
    """
    parser = stream_parser(about)
    # Options may stand before, between or after the words.
    typed, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    sort_words(typed)
    check_numbers(typed)
    check_word("--start", typed.start, STARTS)
    check_together(typed)
    if typed.config_dir is not None and not typed.config_dir.is_dir():
        raise ValueError(f"--config-dir {typed.config_dir}: no such folder")
    check_files(typed.files)
    check_places(typed)
    return typed


def stream_parser(about: str = "") -> CommandParser:
    parser = CommandParser("ttt-stream", about=about)
    add = parser.add_argument
    add("words", nargs="*", metavar="RUN FILE", help="a run folder, or overrides; then files (-: standard input)")
    add("--each", action="store_true", help="each file is a text of its own, with fast weights of its own")
    add("--sessions", action="store_true", help='the input is JSON lines: {"session": name, "text": text}')
    add("--lanes", type=int, default=8, metavar="N", help="texts that are read side by side (%(default)s)")
    add("--memory", type=float, default=1000, metavar="MB", help="of all texts; idle ones go to disk (%(default)s)")
    reading = parser.add_argument_group("how it reads")
    add = reading.add_argument
    add("--start", default="initial", metavar="WORD", help="fast weights at first: initial, or carried (from the run)")
    add("--reset", default=NEVER, metavar="N", help="fast weights return to their start after N tokens (%(default)s)")
    add("--decay", type=float, default=1.0, metavar="X", help="share of them that is left after a block (%(default)s)")
    add("--max-norm", type=float, metavar="X", help="scale them down to this norm after a block")
    add("--context", type=int, metavar="N", help="tokens that attention sees, in place of model.window")
    add("--block", type=int, default=256, metavar="N", help="tokens that are read at once (%(default)s)")
    add("--no-control", action="store_true", help="do not read a second time without writes, to compare")
    output = parser.add_argument_group("what it keeps and says")
    add = output.add_argument
    add("--state", type=Path, metavar="PLACE", help="saved after each block: a file; of several texts a folder")
    add("--append", action="store_true", help="the input is new text, behind what the state has read")
    add("--window", type=int, default=16, metavar="N", help="blocks of a line, or of an event (%(default)s)")
    add("--json", action="store_true", help="print events as JSON lines")
    add("--out", type=Path, metavar="FOLDER", help="write events.jsonl, stream.json and report.html")
    add("--threads", type=int, default=1, metavar="N", help="of the CPU (%(default)s)")
    add("--config-dir", type=Path, metavar="DIR", help="the folder of your own modules, as in ttt-run")
    speech = parser.add_argument_group("what it writes when all is read")
    add = speech.add_argument
    add("--say", type=int, metavar="N", help="go on with N tokens, which it reads and learns from as well")
    add("--session", metavar="NAME", help="the session that goes on (with several)")
    add("--temperature", type=float, default=0.0, metavar="X", help="0: the likeliest token (%(default)s)")
    add("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens")
    add("--top-p", type=float, metavar="P", help="draw from the likeliest that have this probability together")
    add("--stop", metavar="TEXT", help="end with this text; it must be one token")
    add("--seed", type=int, default=0, metavar="N", help="of what is drawn (%(default)s)")
    return parser


def is_several(typed: argparse.Namespace) -> bool:
    """Are several texts read, each with fast weights of its own?"""
    return bool(typed.each or typed.sessions)


def sort_words(typed: argparse.Namespace) -> None:
    """Tell overrides, which have a =, from the run folder, which comes first, and from files."""
    # A file may have a = in its name: what exists is no override.
    typed.overrides = [word for word in typed.words if "=" in word and not Path(word).exists()]
    paths = [word for word in typed.words if word not in typed.overrides]
    if not typed.overrides and not paths:
        raise ValueError("say what reads: a run folder, or overrides such as model=smollm2; see ttt-stream --help")
    typed.run = None if typed.overrides else Path(paths[0])
    if typed.overrides and paths and RunFolder(Path(paths[0])).config.is_file():
        raise ValueError(f"{typed.overrides[0]}: a run has its settings; name the run, or overrides, not both")
    files = paths if typed.overrides else paths[1:]
    typed.files = files or [STDIN]


def check_numbers(typed: argparse.Namespace) -> None:
    """Raise ValueError for a number out of its range."""
    for name, least in LEAST.items():
        value = getattr(typed, name)
        if value is not None and not value >= least:
            raise ValueError(f"--{name.replace('_', '-')} {value:g}: must be at least {least}")
    typed.reset_tokens = None
    if typed.reset != NEVER:
        if not typed.reset.isdecimal() or int(typed.reset) < 1:
            raise ValueError(f"--reset {typed.reset}: must be a number of tokens, at least 1, or {NEVER}")
        typed.reset_tokens = int(typed.reset)
    if not 0 <= typed.decay <= 1:
        raise ValueError(f"--decay {typed.decay:g}: must lie between 0 and 1")
    if typed.max_norm is not None and not typed.max_norm > 0:
        raise ValueError(f"--max-norm {typed.max_norm:g}: must be above 0")
    if not 0 <= typed.temperature < float("inf"):
        raise ValueError(f"--temperature {typed.temperature:g}: must be 0 or above")
    if typed.top_p is not None and not 0 < typed.top_p <= 1:
        raise ValueError(f"--top-p {typed.top_p:g}: must lie above 0 and be at most 1")


def check_together(typed: argparse.Namespace) -> None:
    """Raise ValueError for options that exclude each other, or would do nothing."""
    several = is_several(typed)
    if typed.each and typed.sessions:
        raise ValueError("--each: the records of --sessions name their sessions; use one of the two")
    if typed.each and STDIN in typed.files:
        raise ValueError("--each: needs files; the standard input is one text")
    twice = [name for name in typed.files if typed.files.count(name) > 1]
    if twice and typed.each:
        raise ValueError(f"--each: {twice[0]} is there twice")
    if typed.append and typed.state is None:
        raise ValueError("--append: needs --state, which has read something before")
    if typed.session is not None and not (several and typed.say):
        raise ValueError(f"--session {typed.session}: says which of several texts goes on; needs --say, and --sessions")
    if typed.each and typed.session is not None:
        check_word("--session", typed.session, typed.files)
    if typed.say and several and typed.session is None:
        raise ValueError(f"--say {typed.say}: with several texts, say which one goes on: --session NAME")
    for name in ("top_k", "top_p", "stop"):
        value = getattr(typed, name)
        if value is not None and not typed.say:
            raise ValueError(f"--{name.replace('_', '-')} {value}: does nothing without --say")
    # At temperature 0 there is nothing to draw: the likeliest token is among any likely ones.
    for name in ("top_k", "top_p"):
        if getattr(typed, name) is not None and typed.temperature == 0:
            raise ValueError(f"--{name.replace('_', '-')}: does nothing at temperature 0; add --temperature 1")


def check_places(typed: argparse.Namespace) -> None:
    """Raise ValueError for a state that cannot be where it was typed."""
    if typed.state is None:
        return
    several = is_several(typed)
    if several and typed.state.is_file():
        raise ValueError(f"--state {typed.state}: is a file; the state of several texts is a folder")
    if not several and typed.state.is_dir():
        raise ValueError(f"--state {typed.state}: is a folder; the state of one text is a file")
    if not typed.state.absolute().parent.is_dir():
        raise ValueError(f"--state {typed.state}: there is no folder {typed.state.parent}")
    if typed.append and not typed.state.exists():
        raise ValueError(f"--state {typed.state}: does not exist; --append goes on from one that does")
