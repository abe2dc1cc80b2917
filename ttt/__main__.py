"""`python -m ttt`: the commands of ttt, a line for each."""

from __future__ import annotations

from ttt.cli.commands import listing
from ttt.cli.outlet import outlast_readers

outlast_readers()
print(listing())
