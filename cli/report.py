"""ttt-report: from run folders to one self-contained HTML page."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ttt.cli.console import say_error
from ttt.cli.outlet import outlast_readers
from ttt.cli.parser import CommandParser
from ttt.cli.process import in_own_process
from ttt.config.messages import few
from ttt.run.exit_codes import ExitCode
from ttt.storage.run_folder import PAGE

EPILOG = """one run: RUN/report.html, and its pictures in RUN/plots. Several (folders, globs, a sweep's or a
study's folder): one page that compares them, to -o FILE, by default report.html in the one folder that
was given. Runs of several streams have a section for each. The page needs no network and no server: open
it in any browser, print it, or send it."""


@in_own_process
def main() -> None:
    outlast_readers()
    try:
        typed = report_parser().parse_args()
        check_output(typed.output)
        print(write_page(typed))
    except ValueError as error:
        say_error(f"ttt-report: {error}")
        sys.exit(ExitCode.USAGE)


def report_parser() -> CommandParser:
    parser = CommandParser("ttt-report", about=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="run folders, folders of them, or globs")
    add("-o", "--output", type=Path, metavar="FILE.html", help="where the page goes")
    add("--where", nargs="+", default=[], metavar="KEY=VALUE", help="only runs with such values, as in ttt-compare")
    add("--baseline", default="", metavar="KEY=VALUE",
        help="what others are compared with, as in ttt-compare; by default adapter=none or strategy=naive")  # fmt: skip
    return parser


def check_output(to: Path | None) -> None:
    """Raise ValueError for a file that cannot be the page, before any run is read."""
    if to is not None and to.suffix != ".html":
        raise ValueError(f"-o {to}: must end in .html")
    if to is not None and not to.parent.is_dir():
        raise ValueError(f"-o {to}: there is no folder {to.parent}")


def write_page(typed: argparse.Namespace) -> str:
    """Write the page and return a line that says where. Raises ValueError in the user's words."""
    # Imported here, so that `--help` does not wait for matplotlib.
    from ttt.compare.runs import find_runs
    from ttt.report.many import Wish, write_comparison
    from ttt.report.one import write_run

    search = find_runs(typed.runs)
    folders = [*search.done, *search.unfinished]
    runs = " ".join(typed.runs)
    if not folders:
        raise ValueError(f"{runs}: holds no run (neither results.json nor status.json)")
    try:
        # One run gets a page even if it is not finished; a comparison needs results.
        if len(folders) == 1:
            _check_several(typed)
            file = write_run(folders[0], to=typed.output)
        elif not search.done:
            raise ValueError(
                f"{runs}: holds no finished run to compare; {len(folders)} unfinished, the first in {folders[0]}"
            )
        else:
            # The page shows the command that makes it again.
            wish = Wish(typed.where, typed.baseline, shlex.join(["ttt-report", *sys.argv[1:]]))
            file = write_comparison(search, to=typed.output or default_page(typed.runs), wish=wish)
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from error
    return f"wrote {file} ({file.stat().st_size / 1000:,.0f} kB)"


def _check_several(typed: argparse.Namespace) -> None:
    """Raise ValueError for an option that the page of one run does not have."""
    option = "where" if typed.where else "baseline" if typed.baseline else ""
    if option:
        raise ValueError(f"--{option}: compares runs, and {few(typed.runs)} holds one")


def default_page(runs: list[str]) -> Path:
    """Return where the page of several runs goes without -o.

    Raises ValueError unless one folder was typed: only then is the place obvious.
    """
    if len(runs) > 1 or not Path(runs[0]).expanduser().is_dir():
        raise ValueError(f"{few(runs)}: several runs; say where their page goes: -o FILE.html")
    return Path(runs[0]).expanduser() / PAGE


if __name__ == "__main__":
    main()
