"""What a model knew before the stream: the sets that `eval.known` names, checked and read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from ttt.adapters.base import Adapter
from ttt.adapters.evolving import Evolving
from ttt.config.allowed import refusal
from ttt.config.messages import show, suggest
from ttt.stream import KnownSets, Source, Textual
from ttt.tasks.known import NAMES, read_known, set_name

FILE = "FILE.jsonl"


def build_known(config: Mapping[str, Any], *, source: Source, adapter: Adapter, length: int) -> KnownSets:
    """The sets in the tokens of the source. Raises ValueError in the user's words."""
    section = config["eval"]
    # Configs of earlier versions have no such key.
    words = section.get("known", [])
    if words == []:
        return KnownSets()
    sequences = section["known_sequences"]
    for key, value, allowed in (("known", words, list[str]), ("known_sequences", sequences, Annotated[int, Ge(1)])):
        if why := refusal(value, allowed):
            raise ValueError(f"eval.{key}={show(value)}: {why}")
    _check_words(words)
    if not isinstance(source, Textual):
        raise ValueError(f"eval.known={show(words)}: source={source.name} holds no text; use a source of text")
    if isinstance(adapter, Evolving):
        raise ValueError(f"eval.known={show(words)}: adapter={adapter.name} has no prompt for texts; use adapter=none")
    return read_known(words, source=source, sequences=sequences, length=length, cache_dir=config["cache_dir"])


def _check_words(words: list[str]) -> None:
    for word in words:
        is_file = Path(word).suffix == ".jsonl"
        if not is_file and word not in NAMES:
            raise ValueError(f"eval.known={show(words)}: {word!r} is unknown; {suggest(word, (*NAMES, FILE))}")
        # A set is part of the names of metrics.
        if is_file and not set_name(word).replace("_", "").replace("-", "").isalnum():
            raise ValueError(
                f"eval.known={show(words)}: {Path(word).name!r} must be letters, digits, - or _ before .jsonl"
            )
    name, times = Counter(map(set_name, words)).most_common(1)[0]
    if times > 1:
        raise ValueError(f"eval.known={show(words)}: {times} sets are called {name!r}; rename a file")
