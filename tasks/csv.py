"""Your own table: texts with labels, or prompts with answers.

    review,stars,shop            source.text=review source.label=stars
    "Fine, but loud",4,north     source.prompt=review source.answer=stars source.group=shop

Labels are the classes that a stream is cut by; prompts and answers are cut by their group. A folder
of files, or of a folder for each class, names labels or groups where no column does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ttt.tasks.machinery.answers import Answers, Pair
from ttt.tasks.machinery.hints import some
from ttt.tasks.machinery.rows import KINDS, Row, check_columns, read_rows

WHAT = f"a file ({'|'.join(KINDS)}), or a folder of such files or of a folder for each class"
COLUMNS = "source.text=COLUMN source.label=COLUMN, or source.prompt=COLUMN source.answer=COLUMN"


@dataclass(kw_only=True, eq=False)
class Csv(Answers):
    """Classes in the order of their first rows."""

    path: str | None
    text: str | None
    label: str | None
    prompt: str | None
    answer: str | None
    group: str | None

    def pairs(self) -> Iterator[Pair]:
        columns: list[str] = []
        for row, unit, where in self.table():
            # Lines of JSON may have other columns than the first.
            if columns != list(row):
                columns = list(row)
                self._check(columns, where)
            yield self._pair(row, unit, where)
        if not columns:
            raise ValueError(f"source.path={self.path}: holds no rows")

    def table(self) -> Iterator[tuple[Row, str, str]]:
        """Yield each row, the class that it is of where no column names one, and where it is."""
        for file, unit in self._files():
            yield from ((row, unit, str(file)) for row in read_rows(file))

    def has_labels(self) -> bool:
        return self.text is not None

    def typed(self) -> str:
        return f"source.label={self.label}" if self.label else f"source.path={self.path}"

    def _pair(self, row: Row, unit: str, where: str) -> Pair:
        def text(argument: str) -> str | None:
            value = row[getattr(self, argument)]
            if isinstance(value, dict | list):
                column = f"source.{argument}={getattr(self, argument)}"
                raise ValueError(f"{column}: holds no text in {where}, but {type(value).__name__}")
            return None if value is None else str(value)

        if self.has_labels():
            label = text("label") if self.label else unit
            return Pair(text("text"), label, label)
        return Pair(text("prompt"), text("answer"), text("group") if self.group else unit)

    def _check(self, columns: list[str], where: str) -> None:
        names = ("text", "label", "prompt", "answer", "group")
        wanted = {name: getattr(self, name) for name in names}
        typed = {name for name, column in wanted.items() if column}
        if typed not in ({"text"}, {"text", "label"}, {"prompt", "answer"}, {"prompt", "answer", "group"}):
            words = " ".join(f"source.{name}={wanted[name]}" for name in names if name in typed) or "no column is named"
            raise ValueError(f"{words}: name {COLUMNS} (and source.group=COLUMN); {where} has: {some(columns)}")
        check_columns(columns, wanted, where=where)

    def _files(self) -> list[tuple[Path, str]]:
        """Return the files, each with the class that it stands for where no column names one."""
        if self.path is None:
            raise ValueError(f"source.path=null: name {WHAT}")
        path = Path(self.path).expanduser()
        if path.is_file() and path.suffix in KINDS:
            return [(path, path.stem)]
        if not path.is_dir():
            what = "cannot be read" if path.exists() else f"no such file{_nearest(path)}"
            raise ValueError(f"source.path={self.path}: {what}; allowed: {WHAT}")
        inside = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
        # Hidden files and folders hold what tools left there.
        visible = [file for file in inside if not any(part.startswith(".") for part in file.parts)]
        files = [file for file in visible if file.suffix in KINDS]
        if not files:
            raise ValueError(f"source.path={self.path}: holds no such file; allowed: {WHAT}")
        if not (self.label or self.group):
            self._check_folders(visible, files)
        return [(path / file, file.parts[0] if len(file.parts) > 1 else file.stem) for file in files]

    def _check_folders(self, visible: list[Path], files: list[Path]) -> None:
        """Raise ValueError for a class, which is a folder here, that would go missing."""
        read = {file.parts[0] for file in files}
        missing = [file for file in visible if len(file.parts) > 1 and file.parts[0] not in read]
        if missing:
            raise ValueError(
                f"source.path={self.path}: {missing[0].parts[0]} holds no such file (but {missing[0].name}); "
                f"allowed: {WHAT}; source=text reads files of any name"
            )


def _nearest(path: Path) -> str:
    """Return a hint at a file with a similar name."""
    near = get_close_matches(path.name, [file.name for file in path.absolute().parent.glob("*")], n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
