"""What a model knew before a stream: two texts, 120 items of general knowledge, and your own items.

    {"prompt": "The capital of France is", "options": ["Rome", "Paris"], "answer": 1}

They are read in the tokens of the run's own source. The texts are eval parts of the sources prose
and code, of which a run on one of these sources trains on the rest alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ttt.stream import IGNORE, Batch, Ints, Items, KnownSets, Textual
from ttt.tasks.code import Code
from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.prose import Prose

TEXTS: Mapping[str, type[Corpus]] = {"prose": Prose, "code": Code}
ITEMS = "items"
NAMES = (*TEXTS, ITEMS)
FILE = Path(__file__).parent / "data" / "known_items.jsonl"
# What the YAML of the two sources says too, so that a run on one of them has the same eval parts.
EVAL_SHARE = 0.2
# No more characters than this are tokenised for each token that is needed.
CHARACTERS = 16
FORM = 'must be {"prompt": text, "options": [two or more different texts], "answer": index of the right one, from 0}'


class Item(NamedTuple):
    """A prompt, what may follow it, and the index of the right option."""

    prompt: str
    options: Sequence[str]
    answer: int


def read_known(names: Sequence[str], *, source: Textual, sequences: int, length: int, cache_dir: str) -> KnownSets:
    """Return the sets that `names` names: words of NAMES, and paths of files of items.

    Of a text, `sequences` rows of at most `length` tokens. Raises ValueError for a file that is
    none.
    """
    texts, items = {}, {}
    for name in names:
        if name in TEXTS:
            corpus = TEXTS[name](name=name, eval_share=EVAL_SHARE, tokenizer="bytes", cache_dir=cache_dir)
            texts[name] = windows("\n".join(corpus.eval_texts()), source=source, rows=sequences, length=length)
        else:
            items[set_name(name)] = option_rows(read_items(FILE if name == ITEMS else Path(name)), source=source)
    return KnownSets(texts, items, _fingerprint(texts, items) if names else "")


def set_name(word: str) -> str:
    """Return what a set is called: a file by its name, without folders and suffix."""
    return Path(word).stem


def windows(text: str, *, source: Textual, rows: int, length: int) -> Batch:
    """Return the beginnings of `rows` stretches of equally many lines, at most `length` tokens."""
    lines = text.splitlines(keepends=True)
    ends = np.linspace(0, len(lines), rows + 1).astype(int)
    stretches = ("".join(lines[start:end]) for start, end in pairwise(ends))
    # Tokenising the whole stretch would take long, and only its beginning is read.
    tokens = [source.encode(stretch[: CHARACTERS * (length + 1)])[: length + 1] for stretch in stretches]
    return padded_rows(tokens, scored=[1] * rows)


def option_rows(items: Sequence[Item], *, source: Textual) -> Items:
    """Return a row for each option of each item: the prompt, a space and the option."""
    tokens, scored = [], []
    for item in items:
        prompt = source.encode(item.prompt)
        for option in item.options:
            tokens.append(source.encode(f"{item.prompt} {option}"))
            # Where the option changes how the prompt is cut into tokens, something stays to score.
            scored.append(min(len(prompt), len(tokens[-1]) - 1))
    return Items(
        rows=padded_rows(tokens, scored=scored),
        options=[len(item.options) for item in items],
        answers=[item.answer for item in items],
        bytes_R=torch.tensor([len(option.encode()) for item in items for option in item.options]),
    )


def padded_rows(tokens: Sequence[Ints], *, scored: Sequence[int]) -> Batch:
    """Return sequences of any lengths as rows; of each, tokens are scored from one of them on."""
    shape = (len(tokens), max(map(len, tokens)) - 1)
    tokens_BT, targets_BT, segment_BT = np.zeros(shape, np.int64), np.full(shape, IGNORE), np.full(shape, -1)
    for row, (sequence, first) in enumerate(zip(tokens, scored, strict=True)):
        last = len(sequence) - 1
        tokens_BT[row, :last], segment_BT[row, :last] = sequence[:-1], 0
        # A token is the target of the position before it.
        targets_BT[row, first - 1 : last] = sequence[first:]
    return Batch(*map(torch.from_numpy, (tokens_BT, targets_BT, segment_BT)))


def read_items(file: Path) -> list[Item]:
    """Read a file of items, one on each line. Raises ValueError in the user's words."""
    typed = f"eval.known=[{file}]"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{typed}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{typed}: is no text in UTF-8") from error
    items: list[Item] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        item = _item(line)
        if item is None:
            raise ValueError(f"{typed}: line {number} {FORM}")
        items.append(item)
    if not items:
        raise ValueError(f"{typed}: holds no item; each line {FORM}")
    return items


def _item(line: str) -> Item | None:
    """Return the item on a line, None where it is none."""
    try:
        content = json.loads(line)
        item = Item(content["prompt"], content["options"], content["answer"])
    except (ValueError, LookupError, TypeError):
        return None
    return item if _is_sound(*item) else None


def _is_sound(prompt: Any, options: Any, answer: Any) -> bool:
    if not isinstance(options, list) or not all(isinstance(text, str) and text for text in (prompt, *options)):
        return False
    is_index = isinstance(answer, int) and not isinstance(answer, bool)
    return is_index and len(options) > 1 and len(set(options)) == len(options) and 0 <= answer < len(options)


def _fingerprint(texts: Mapping[str, Batch], items: Mapping[str, Items]) -> str:
    digest = hashlib.sha256()
    for name, rows in {**texts, **{name: each.rows for name, each in items.items()}}.items():
        digest.update(f"{name} {list(rows.tokens_BT.shape)}\n".encode())
        for tensor in (rows.tokens_BT, rows.targets_BT):
            digest.update(tensor.numpy().tobytes())
    for name, each in items.items():
        digest.update(json.dumps([name, each.options, each.answers, each.bytes_R.tolist()]).encode())
    return digest.hexdigest()
