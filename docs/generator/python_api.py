"""The page of Python's interface: what `import ttt` offers, from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

from markup import code, paragraphs

import ttt


def python_page() -> str:
    """All public names of `ttt`."""
    text = "# Python\n\nWhat `import ttt` offers. Importing it loads no torch.\n\n"
    names = [name for name in ttt.__all__ if not name.startswith("__")]
    for name in sorted(names, key=lambda name: (name[0].isupper(), name)):
        # Not as an attribute of ttt: rooms of the package have the names `run` and `compare` too.
        text += _entry(f"ttt.{name}", getattr(import_module(ttt.PLACES[name]), name))
    return text


def _entry(name: str, thing: Any) -> str:
    text = f"## {name}\n\n{_signature(name, thing)}{paragraphs(inspect.getdoc(thing) or '')}"
    return text + (_members(thing) if inspect.isclass(thing) else "")


def _members(kind: type) -> str:
    """The public methods and properties that a class defines itself."""
    text = ""
    for name, member in vars(kind).items():
        function = getattr(member, "func", None) or getattr(member, "fget", None) or member
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        shown = code(f".{name}") if function is not member else code(f".{name}{_parameters(function)}")
        text += f"**{shown}**\n\n{paragraphs(inspect.getdoc(function) or '')}"
    return text


def _signature(name: str, thing: Any) -> str:
    if inspect.isclass(thing) and issubclass(thing, Exception) and thing.__init__ is Exception.__init__:
        return ""
    try:
        return f"```python\n{name}{_parameters(thing)}\n```\n\n"
    except ValueError:
        return ""


def _parameters(thing: Any) -> str:
    # Annotations are text here: they are shown without quotes and without modules, as one reads them.
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing)))
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text).replace("(self, ", "(").replace("(self)", "()")
