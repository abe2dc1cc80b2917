"""ttt-report: run folders in, one self-contained HTML page out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EPILOG = """one run: RUN/report.html, and its pictures in RUN/plots. Several (folders, globs, a study's folder):
one page that compares them, to -o FILE, by default report.html in the one folder that was given.
The page needs no network and no server: open it in any browser, print it, or send it."""


def main() -> None:
    typed = arguments()
    try:
        check(typed.output)
        print(write(typed.runs, to=typed.output))
    except ValueError as error:
        print(f"ttt-report: {error}", file=sys.stderr)
        sys.exit(2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ttt-report", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, folders of them, or globs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="where the page goes")
    return parser.parse_args()


def check(to: Path | None) -> None:
    """Raises ValueError for a file that cannot be a page."""
    if to is not None and to.suffix != ".html":
        raise ValueError(f"-o {to}: must end in .html")
    if to is not None and not to.parent.is_dir():
        raise ValueError(f"-o {to}: there is no folder {to.parent}")


def write(runs: list[str], *, to: Path | None) -> str:
    """Write the page; returns a line that says where. Raises ValueError in the user's words."""
    # Imported here: `--help` needs no matplotlib.
    from ttt.compare.runs import find
    from ttt.report.many import write_comparison
    from ttt.report.one import write_run

    found = find(runs)
    folders = [*found.done, *found.unfinished]
    typed = " ".join(runs)
    if not folders:
        raise ValueError(f"{typed}: holds no run (neither results.json nor status.json)")
    try:
        if len(folders) == 1:
            file = write_run(folders[0], to=to)
        elif not found.done:
            raise ValueError(
                f"{typed}: holds no finished run to compare; {len(folders)} unfinished, the first in {folders[0]}"
            )
        else:
            file = write_comparison(found, to=to or place(runs))
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from error
    return f"wrote {file} ({file.stat().st_size / 1000:,.0f} kB)"


def place(runs: list[str]) -> Path:
    """Where the page of several runs goes by itself. Raises ValueError where that is not clear."""
    if len(runs) > 1 or not Path(runs[0]).expanduser().is_dir():
        raise ValueError(f"{' '.join(runs)}: several runs; say where their page goes: -o FILE.html")
    return Path(runs[0]).expanduser() / "report.html"


if __name__ == "__main__":
    main()
