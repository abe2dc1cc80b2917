"""Text that shows what it is: a name in a file of somebody else may hold orders for a terminal."""

from __future__ import annotations

import re

# Control characters but newline and tab (an escape sequence begins with one), line separators, and
# marks that turn the direction of what follows.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Return `text` with a symbol for every character that acts instead of being seen."""
    # Encoding replaces the halves of surrogate pairs, which UTF-8 cannot hold.
    return HIDDEN.sub(_symbol, text.encode("utf-8", "replace").decode())


def _symbol(character: re.Match[str]) -> str:
    code = ord(character[0])
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


def cell(value: object) -> object:
    """Return a value for a CSV file: text that would run as a formula there gets a quote."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
