"""ttt: does this model keep learning, and what does it forget?

    import ttt

    run = ttt.run("task=split-sequence", "adapter=mlp_fast", seed=1)    # what ttt-run does
    run.metrics["fast/loss/avg_final"], run.R("fast", "loss"), run.to_frame()
    ttt.compare("outputs", baseline="adapter.name=none")                # what ttt-compare does

Wrong input raises UsageError, in one line; a run that stops raises RunError. Importing ttt loads no
torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ttt.config.version import VERSION

if TYPE_CHECKING:
    from ttt.api.opened import Run, open_run
    from ttt.api.sessions import Sessions
    from ttt.api.start import RunError, run
    from ttt.api.table import Table, compare
    from ttt.config.messages import UsageError
    from ttt.learner import Reader

__version__ = VERSION
# Where each name of the front door lives. It is imported when it is used for the first time.
PLACES = {
    "Reader": "ttt.learner",
    "Run": "ttt.api.opened",
    "RunError": "ttt.api.start",
    "Sessions": "ttt.api.sessions",
    "Table": "ttt.api.table",
    "UsageError": "ttt.config.messages",
    "compare": "ttt.api.table",
    "open_run": "ttt.api.opened",
    "run": "ttt.api.start",
}
__all__ = ["Reader", "Run", "RunError", "Sessions", "Table", "UsageError", "__version__", "compare", "open_run", "run"]


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'ttt' has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__


class _FrontDoor(ModuleType):
    """Keeps `ttt.run` and `ttt.compare` functions: rooms have these names too.

    Python sets a package as an attribute of its parent when it is imported.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
