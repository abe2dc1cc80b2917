"""ttt-stream: read text that goes on, and learn while reading.

    ttt-stream RUN book.txt             bits per byte over time, and without writes
    cat book.txt | ttt-stream RUN       the same from the standard input
    ttt-stream model=smollm2 adapter=mlp_fast_convert --context 512 book.txt
                                        the model that ttt-run would take, before any training
    ttt-stream RUN book.txt --state book.state
                                        keep its memory; typed again, it goes on
    ttt-stream RUN more.txt --state book.state --append
                                        read on in another text
    ttt-stream RUN a.txt b.txt c.txt --each
    ttt-stream RUN --sessions talk.jsonl --state talk
                                        many texts at once, each with fast weights of its own
    ttt-stream RUN book.txt --say 200 --temperature 0.8
                                        then write on, and learn from that as well

RUN is a folder that ttt-run made. Every token is scored before it is read. Memory does not grow
with the text: attention keeps what its window sees (model.window, or --context). The table, or with
--json every event, goes to the standard output, progress to standard error. Exit codes: 0; 2 the
command or the text was wrong; 77 the disk is full; 78 a file cannot be read or written; 130 Ctrl-C
(with --state it goes on when typed again).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttt.cli.console import say_error
from ttt.cli.outlet import outlast_readers
from ttt.cli.process import in_own_process
from ttt.cli.streaming.arguments import is_several, stream_options
from ttt.cli.streaming.inputs import TextPart, one_text, records, side_by_side, text_name
from ttt.run.exit_codes import ExitCode
from ttt.storage.files import FULL

if TYPE_CHECKING:
    from ttt.serving.readers import Readers


@in_own_process
def main() -> None:
    """Run the console command."""
    outlast_readers()
    try:
        typed = stream_options(sys.argv[1:], about=__doc__ or "")
        # Imported here and below, so that a mistyped word does not wait for torch.
        import torch

        torch.set_num_threads(typed.threads)
        outlast_readers(stops=True)
        stream(typed)
        # What is left is written here, where a closed pipe can still end the command.
        sys.stdout.flush()
    except ValueError as error:
        say_error(f"ttt-stream: {error}")
        sys.exit(ExitCode.USAGE)
    except KeyboardInterrupt:
        say_error("ttt-stream: stopped")
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output wants no more.
        sys.exit(ExitCode.DONE)
    except OSError as error:
        # Writing to a file that is open names none.
        where = f"{error.filename}: " if error.filename else ""
        say_error(f"ttt-stream: {where}{error.strerror}")
        sys.exit(ExitCode.DISK if error.errno in FULL else ExitCode.DATA)


def stream(typed: argparse.Namespace) -> None:
    """Read everything, then show what it came to. Raises ValueError in the user's words."""
    from ttt.cli.streaming.opening import open_reading, rules_of, sampling_of
    from ttt.cli.streaming.watch import Watch
    from ttt.serving.readers import Storage

    # What can be refused without the model is refused before it is loaded.
    rules = rules_of(typed)
    opened = open_reading(typed.run, typed.overrides, context=typed.context, config_dir=typed.config_dir)
    sampling = sampling_of(typed, opened)
    with tempfile.TemporaryDirectory(prefix="ttt-stream-") as idle, Watch(typed, opened) as watch:
        # Idle sessions lie where their state is kept, so that saving them is nothing more to do.
        folder = typed.state if typed.state is not None and is_several(typed) else Path(idle)
        sessions = opened.sessions(
            rules, start=typed.start, storage=Storage(folder, int(typed.memory * 1e6)), after_round=watch.after_round
        )
        watch.begin(sessions, restore(sessions, typed))
        for record in input_of(typed):
            sessions.feed(record.session, record.data)
            if record.ends:
                sessions.end(record.session)
        sessions.finish()
        watch.show()
        if typed.say:
            name = typed.session or text_name(typed.files)
            watch.said(name, sessions.generate(name, tokens=typed.say, sampling=sampling))


def restore(sessions: Readers, typed: argparse.Namespace) -> dict[str, Any]:
    """Go on from the state that was typed, if it is there; return what was noted beside it."""
    if typed.state is None or not typed.state.exists():
        return {}
    if is_several(typed):
        return sessions.load(append=typed.append)
    return sessions.read_file(typed.state, text_name(typed.files), append=typed.append)


def input_of(typed: argparse.Namespace) -> Iterator[TextPart]:
    """The input as parts of one text or of several."""
    if typed.sessions:
        return records(typed.files)
    if typed.each:
        return side_by_side(typed.files, lanes=typed.lanes, part=typed.block)
    return one_text(typed.files)


if __name__ == "__main__":
    main()
