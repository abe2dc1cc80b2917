"""`python -m ttt`: the commands of ttt, a line for each."""

from __future__ import annotations

from ttt.cli.commands import listing

print(listing())
