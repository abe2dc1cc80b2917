"""The page of experiments: what each is for, and its file."""

from __future__ import annotations

from markup import paragraphs
from options import CONF, read

from ttt.config.explained import explain


def experiments_page() -> str:
    """All files of conf/experiment."""
    text = "# experiment=\n\nSettings that belong together, and the sweep for which they are made "
    text += "(`ttt-run --study NAME`).\n\n"
    names = sorted(path.name.removesuffix(".yaml") for path in (CONF / "experiment").iterdir())
    for name in names:
        file = read(f"experiment/{name}")
        lines = file.splitlines()
        begin = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
        body = "\n".join(lines[begin:])
        text += f"## experiment={name}\n\n{paragraphs(explain(file).about)}```yaml\n{body}\n```\n\n"
    return text
