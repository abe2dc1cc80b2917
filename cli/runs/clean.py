"""ttt-run clean: remove what finished runs left behind and nothing needs any more.

Without --yes it only lists what would go. Checkpoints of finished runs go, but for the newest of
each; the logs of sweeps that have ended; and from the cache the bases and the prepared data that no
run below FOLDER has, which are made again when a run needs them. Unfinished runs keep everything,
links are never followed, and no number is lost.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ttt.cli.console import say_error
from ttt.cli.runs.subword import SubwordParser
from ttt.config.messages import UsageError
from ttt.run.exit_codes import ExitCode
from ttt.run.leftovers import Leftover, old_checkpoints, old_logs, unused_cache

# So many lines of one kind are shown, the largest first.
SHOWN = 10


def clean(words: Sequence[str]) -> int:
    """Do what `ttt-run clean WORDS` says. Raises UsageError."""
    typed = clean_parser().parse_args(list(words))
    for folder in typed.folders:
        if not folder.is_dir():
            raise UsageError(f"clean {folder}: no such folder")
    leftovers = _leftovers(typed)
    _show(leftovers)
    if typed.yes:
        return _remove(leftovers)
    if leftovers:
        print("nothing was removed; to remove it, add --yes")
    return ExitCode.DONE


def clean_parser() -> argparse.ArgumentParser:
    parser = SubwordParser("clean", about=str(__doc__))
    cache = Path(os.environ.get("TTT_CACHE", "~/.cache/ttt"))
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("outputs")], metavar="FOLDER", help="of runs (outputs)"
    )
    parser.add_argument("--yes", action="store_true", help="remove what is listed")
    parser.add_argument("--all", action="store_true", help="also the newest checkpoint of each finished run")
    parser.add_argument("--cache", type=Path, default=cache, metavar="FOLDER", help=f"the cache_dir of runs ({cache})")
    parser.add_argument("--keep-cache", action="store_true", help="leave the cache alone")
    return parser


def _leftovers(typed: argparse.Namespace) -> list[Leftover]:
    keep = 0 if typed.all else 1
    folders = [folder.expanduser() for folder in typed.folders]
    leftovers = [each for folder in folders for each in (*old_checkpoints(folder, keep=keep), *old_logs(folder))]
    if typed.keep_cache:
        return leftovers
    # Runs without a note may have anything in the cache, so that nothing of it may go.
    unused, silent = unused_cache(typed.cache.expanduser(), folders)
    if silent:
        print(f"cache kept: {silent} runs do not say what they have in it; type each once more, or delete it by hand")
        unused = []
    return leftovers + unused


def _show(leftovers: Sequence[Leftover]) -> None:
    """List what goes by kind, the largest first, with the sum."""
    kinds: dict[str, list[Leftover]] = defaultdict(list)
    for each in leftovers:
        kinds[each.what].append(each)
    for what, members in kinds.items():
        print(f"{what}: {len(members)}, {size_in_words(sum(each.size for each in members))}")
        by_size = sorted(members, key=lambda each: -each.size)
        for each in by_size[:SHOWN]:
            print(f"  {size_in_words(each.size):>9}  {each.path}")
        if len(members) > SHOWN:
            print(f"  and {len(members) - SHOWN} more")
    print(f"{len(leftovers)} leftovers, {size_in_words(sum(each.size for each in leftovers))} in all")


def _remove(leftovers: Sequence[Leftover]) -> int:
    """Delete them; return the exit code."""
    removed = 0
    for each in leftovers:
        try:
            each.remove()
            removed += 1
        except OSError as error:
            say_error(f"ttt-run: clean: {each.path}: {error.strerror or error}")
    print(f"{removed} removed")
    return ExitCode.DONE if removed == len(leftovers) else ExitCode.FAILED


def size_in_words(size: float) -> str:
    """A number of bytes as a person reads it: 12 kB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
