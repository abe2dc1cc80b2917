"""Call a console command in this process, as if it were typed."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from harness import Outcome


def typed(main: Callable[[], None], *words: object, cwd: Path | None = None) -> Outcome:
    """Return exit code, stdout and stderr of `main` with these words in `sys.argv`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [str(word) for word in words]),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def assert_refused(outcome: Outcome, *parts: object) -> None:
    """Assert that a command said these things in one line of stderr and exited with 2."""
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    for part in parts:
        assert str(part) in outcome.err
