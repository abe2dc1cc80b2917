"""What sources promise: draws follow from their generator alone, and parts do not mix.

draw(rng 0), draw(rng 1), draw(rng 0)    the first and the last are equal
train  a b c | eval  d e                 no eval sequence is drawn, nor read in a pass
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ttt.promises.data import equal, misshapen, rows_of
from ttt.promises.ruling import HOLDS, Ruling, broken, not_given
from ttt.stream import Batch, Ints, Source

# Classes of a source, draws, rows and units that are looked at.
CLASSES, DRAWS, ROWS, UNITS = 4, 8, 4, 256


@dataclass(frozen=True)
class SourceCase:
    """`anew` makes the source again, its data prepared again; `length`: tokens of a sequence."""

    source: Source
    anew: Callable[[], Source]
    length: int

    @cached_property
    def classes(self) -> Ints:
        """A few classes, each of another family."""
        return np.array([family[0] for family in self.source.families()][:CLASSES])

    def draw(self, source: Source, seed: int) -> Batch:
        return source.draw(self.classes, rows=ROWS, length=self.length, rng=np.random.default_rng(seed))


def stable(case: SourceCase) -> Ruling:
    """Read anew, a source has the same fingerprint and gives the same sequences."""
    again = case.anew()
    if again.fingerprint != case.source.fingerprint:
        return broken("its fingerprint changes when its data are read again")
    same = equal(case.draw(again, 0), case.draw(case.source, 0))
    return HOLDS if same else broken("equal generators draw different sequences when its data are read again")


def follows_generator(case: SourceCase) -> Ruling:
    """What is drawn follows from the generator alone."""
    first = case.draw(case.source, 0)
    other = case.draw(case.source, 1)
    if not equal(first, case.draw(case.source, 0)):
        return broken("equal generators draw different sequences")
    return broken("different generators draw equal sequences") if equal(first, other) else HOLDS


def in_range(case: SourceCase) -> Ruling:
    """Tokens and targets are numbers of the vocabulary, in rows of the length that was wanted."""
    batches = {
        "drawn": case.draw(case.source, 0),
        "eval part": case.source.evaluation(case.classes, rows=ROWS, length=case.length),
    }
    for what, batch in batches.items():
        why = misshapen(batch, vocab=case.source.vocab_size, length=case.length)
        if why:
            return broken(f"{what}: {why}")
    return HOLDS


def source_parts(case: SourceCase) -> Ruling:
    """No eval sequence is drawn in training, and the eval part stays as it is."""
    evaluation = list(rows_of(case.source.evaluation(case.classes, rows=ROWS, length=case.length)))
    # Whole rows: short pieces of text may stand in both parts by chance.
    drawn = {row for seed in range(DRAWS) for row in rows_of(case.draw(case.source, seed))}
    for index, row in enumerate(evaluation):
        if row in drawn:
            return broken(f"row {index} of the eval part is drawn in training")
    again = list(rows_of(case.source.evaluation(case.classes, rows=ROWS, length=case.length)))
    return HOLDS if again == evaluation else broken("its eval part differs when read again")


def families_part(case: SourceCase) -> Ruling:
    """Each class is in one family, and has a name."""
    members = [index for family in case.source.families() for index in family]
    if sorted(members) != list(range(len(members))):
        return broken(f"families() does not hold each class once: {sorted(members)[:8]}")
    nameless = next((index for index in members if not case.source.class_name(index)), None)
    return HOLDS if nameless is None else broken(f"class {nameless} has no name")


def shows(case: SourceCase) -> Ruling:
    """Tokens can be shown as text."""
    if case.source.vector_size is not None:
        return not_given("its sequences are vectors")
    text = case.source.show(case.draw(case.source, 0).tokens_BT[0].numpy())
    return HOLDS if isinstance(text, str) and text else broken(f"show() returns {text!r}")


def attributes_fit(case: SourceCase) -> Ruling:
    """Labels, symbols and bytes of tokens are of its vocabulary, and its rows are counts."""
    source, vocab = case.source, range(case.source.vocab_size)
    classes = sum(map(len, source.families()))
    if len(source.labels) not in (0, classes):
        return broken(f"labels: {len(source.labels)} for {classes} classes")
    for what, tokens in (("labels", source.labels), ("symbols", source.symbols)):
        wrong = [token for token in tokens if token not in vocab]
        if wrong:
            return broken(f"{what}: {wrong[0]} is not in the vocabulary, 0 to {vocab[-1]}")
    if source.token_bytes is not None and len(source.token_bytes) != len(vocab):
        return broken(f"token_bytes: {len(source.token_bytes)} numbers for {len(vocab)} tokens")
    wrong_rows = [name for name, count in source.rows.items() if not isinstance(count, int)]
    if wrong_rows:
        return broken(f"rows: {wrong_rows[0]!r} is {source.rows[wrong_rows[0]]!r}, not a count")
    bits = source.entropy(case.classes)
    return broken(f"entropy: {bits:.2g} bits") if bits < 0 else HOLDS


def passes(case: SourceCase) -> Ruling:
    """A pass over its train part reads each unit once, and no row of the eval part."""
    source = case.source
    units = source.units(case.classes, length=case.length)
    if units is None:
        return not_given("its sequences never end")
    if len(np.unique(units)) != len(units):
        return broken("units: some of them stand there twice")
    per_row = source.per_row(length=case.length)
    whole = min(len(units), UNITS) // per_row * per_row
    if not whole:
        return not_given(f"its train part has {len(units)} units, and a row has {per_row}")
    batch = source.take(units[:whole].reshape(-1, per_row), length=case.length)
    why = misshapen(batch, vocab=source.vocab_size, length=case.length)
    if why:
        return broken(f"take: {why}")
    evaluation = source.evaluation(case.classes, rows=ROWS, length=case.length)
    shared = {*rows_of(batch)} & {*rows_of(evaluation)}
    return broken("a row of the eval part is read in a pass") if shared else HOLDS


PROMISES = {
    "read anew it is the same": stable,
    "draws follow from their generator": follows_generator,
    "tokens are in the vocabulary": in_range,
    "no eval sequence is drawn": source_parts,
    "a pass reads each unit once": passes,
    "its attributes fit each other": attributes_fit,
    "families part the classes": families_part,
    "tokens can be shown": shows,
}
