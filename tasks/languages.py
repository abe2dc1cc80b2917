"""The Universal Declaration of Human Rights in over 500 languages.

    English    ...Article 1\\nAll human beings are born free and equal in dignity and rights...
    Bulu       ...ATYIÑ ÔSU\\nBôt bese be ne abialé été fili a ekokomba...

A class is one text of about 12 kB. Provenance and licence: tasks/data/README.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from ttt.tasks.machinery.prepared import file_hash

# The beginning of a text that tells its script: tokens.
SCRIPT_TOKENS = 2000
# What follows the name of a script in that of a letter: GREEK SMALL LETTER ALPHA.
LETTER = re.compile(r" (CAPITAL|SMALL|LETTER|SYLLABLE|SYLLABICS|UNIFIED|CHARACTER)\b.*")
# Scripts that are called otherwise than their letters.
SCRIPTS = {"CJK": "Han", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "CANADIAN": "Canadian Syllabics"}
DATA = Path(__file__).parent / "data" / "languages.parquet"


@dataclass(kw_only=True, eq=False)
class Languages(Corpus):
    """One class per text; spellings and close relatives of one language form one family."""

    # A shorter text is too small to be cut into a train and an eval part.
    min_bytes: ClassVar[int] = 6000

    def documents(self) -> Iterator[Document]:
        # Deferred: pyarrow takes a while to import, and `ttt-run --help` does not need it.
        import pyarrow.parquet

        # `group` joins texts that share wording; a base must not read a relative of a task's text.
        for text in pyarrow.parquet.read_table(DATA).to_pylist():
            yield Document(f"{text['code']} {text['name']}", text["group"], text["text"])

    def tags(self, index: int) -> Mapping[str, str]:
        """Return the script of a text, by most of its letters."""
        start = self._start[index]
        return {"script": script_of(self._coder.decode(self._tokens[start : start + SCRIPT_TOKENS]))}

    def recipe(self) -> Mapping[str, Any]:
        return {"sha256": file_hash(DATA)}


def script_of(text: str) -> str:
    """Return the script of most letters, as Unicode names it; `none` without letters."""
    # Modifier letters are left out: they are called after no script.
    letters = [c for c in text if unicodedata.category(c) in ("Ll", "Lu", "Lt", "Lo")]
    words = Counter(LETTER.sub("", unicodedata.name(c, "none")) for c in letters)
    word = words.most_common(1)[0][0] if words else "none"
    return SCRIPTS.get(word, word.title())
