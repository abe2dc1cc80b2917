"""The source, and the stream of tasks that is cut from it, with its base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ttt.config.build import build
from ttt.models.chat import chat_of
from ttt.models.pretrained import tokenizer_of
from ttt.stream import Source, Stream
from ttt.tasks.machinery.users_code import code_of

# The groups whose parts make the data, those that a base is trained with as well, and all that
# make the numbers of a run.
DATA = ("task", "source", "base_source")
BASE = (*DATA, "model", "adapter")
RUN = (*BASE, "objective", "optimizer", "strategy", "also")


def build_data(config: dict[str, Any], *, base_seed: int, trusted: Sequence[Path]) -> tuple[Source, Stream]:
    """Raises ValueError in the user's words."""
    task: Any = build(config["task"], group="task", given={}, trusted=trusted)
    source = build_source(config, trusted)
    stream: Stream = task.build(source, seed=config["seed"], base_seed=base_seed)
    if config.get("base_source") is None:
        return source, stream
    other = build_source(config, trusted, section="base_source")
    _check_base_source(config, source, other)
    # Only the base changes: the tasks are still cut from the first source.
    return source, replace(stream, base=task.base_of(other, base_seed=base_seed))


def build_source(config: Mapping[str, Any], trusted: Sequence[Path], *, section: str = "source") -> Source:
    """Raises ValueError in the user's words."""
    offered = {
        "model_tokenizer": tokenizer_of(config["model"], config["cache_dir"]),
        "model_chat": chat_of(config["model"], config["cache_dir"]),
    }
    source: Source = build(config[section], group=section, given={}, trusted=trusted, offered=offered)
    return source


def own_code(config: Mapping[str, Any], *, groups: Sequence[str]) -> str:
    """Hash the modules of the user's own that parts in `groups` come from; empty where all are
    ours."""
    return "".join(code for group in groups for code in _codes(config.get(group)))


def _codes(section: Any) -> Iterator[str]:
    """A source may be made of sources."""
    if isinstance(section, Mapping):
        yield code_of(str(section.get("_target_", "")).rpartition(".")[0])
        # The function of a proposer, MODULE:FUNCTION.
        yield code_of(str(section.get("propose", "")).partition(":")[0])
        for value in section.values():
            yield from _codes(value)


def _tokenizer(section: Mapping[str, Any]) -> str | None:
    """The tokenizer of a source, or of the one that it is made of, as needles are of a haystack."""
    if "tokenizer" in section:
        return str(section["tokenizer"])
    inner = [_tokenizer(value) for value in section.values() if isinstance(value, Mapping)]
    return next((name for name in inner if name is not None), None)


def _check_base_source(config: dict[str, Any], source: Source, other: Source) -> None:
    """A token must mean the same in both."""
    tokenizers = [_tokenizer(config[section]) for section in ("source", "base_source")]
    typed = f"source@base_source={other.name}"
    # A BPE vocabulary is learned from its own source:
    # two of one name give a number another meaning.
    if tokenizers[0] != tokenizers[1] or str(tokenizers[0]).startswith("bpe-"):
        raise ValueError(
            f"{typed}: its tokenizer is {tokenizers[1]}, that of source={source.name} is {tokenizers[0]}; both must be "
            "bytes, or both model"
        )
    if other.vector_size != source.vector_size:
        raise ValueError(f"{typed}: tokens and vectors do not mix")
    # The model has an output for each token of the stream; a base that uses fewer does no harm.
    if other.vocab_size > source.vocab_size:
        raise ValueError(f"{typed}: has {other.vocab_size} tokens, source={source.name} only {source.vocab_size}")
