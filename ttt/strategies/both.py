"""Two strategies at once, as in `strategy=replay strategy@also=l2_init`.

Each point calls both in the order in which they were typed. At `check`, `begin` and `end_task` a
strategy that puts other weights in place of learned ones (`replaces`) comes first, so that the
other one sees the new weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from torch import Tensor, nn

from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.stream import Batch, Phase, Stream

# A run has one data order, one memory and one way to evaluate: only one of two may change them.
SINGLE = ("phases", "memory", "evaluating")


@contextmanager
def second_refuses() -> Iterator[None]:
    """Word a refusal of the second strategy in the keys that were typed for it."""
    try:
        yield
    except ValueError as error:
        # A strategy does not know its place: it names its arguments as those of the first one.
        typed = {"strategy.": "also.", "strategy=": "strategy@also="}
        message = re.sub(r"\bstrategy[.=]", lambda match: typed[match[0]], str(error))
        raise ValueError(message) from error


class Both(Strategy):
    """Raises ValueError for two strategies that do not go together."""

    def __init__(self, first: Strategy, second: Strategy) -> None:
        super().__init__(name=f"{first.name}+{second.name}")
        _check_pair(first, second)
        self._parts = (first, second)
        # A stable sort: of two that do not differ here, the first one stays first.
        self._in_turn = sorted(self._parts, key=lambda part: not part.replaces)
        # A property of one holds for the pair, but the pair learns only where both do.
        self.is_fresh = first.is_fresh or second.is_fresh
        self.renews = first.renews or second.renews
        self.learns = first.learns and second.learns
        self.needs_likelihood = first.needs_likelihood or second.needs_likelihood
        # From the strictest to the most tolerant: two run where the stricter one does.
        order = ("one", "ddp", "any")
        self.runs_on = min((first.runs_on, second.runs_on), key=order.index)

    def acts_at(self, *points: str) -> bool:
        return any(part.acts_at(*points) for part in self._parts)

    def phases(self, stream: Stream) -> Sequence[Phase]:
        first, second = self._parts
        changed = [first.phases(stream)]
        with second_refuses():
            changed.append(second.phases(stream))
        # At most one of them changes anything: `phases` is in SINGLE.
        return next((phases for phases in changed if phases is not stream.phases), stream.phases)

    def attach(self, model: nn.Module) -> None:
        first, second = self._parts
        first.attach(model)
        with second_refuses():
            second.attach(model)

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        for part in self._in_turn:
            with second_refuses() if part is self._parts[1] else nullcontext():
                part.check(learner, stream, parts=parts)

    def begin(self, engine: Engine, stream: Stream) -> None:
        for part in self._in_turn:
            part.begin(engine, stream)

    def begin_task(self, engine: Engine, index: int) -> None:
        for part in self._parts:
            part.begin_task(engine, index)

    def memory(self, batch: Batch, *, step: int) -> Batch | None:
        # Both are called although one returns rows: each must see every batch.
        batches = [part.memory(batch, step=step) for part in self._parts]
        return next((rows for rows in batches if rows is not None), None)

    def extra(self, learner: Learner, batch: Batch, logits_BTV: Tensor, *, own: int) -> Tensor | None:
        extras = [part.extra(learner, batch, logits_BTV, own=own) for part in self._parts]
        terms = [term for term in extras if term is not None]
        return sum(terms[1:], terms[0]) if terms else None

    @property
    def reads_logits(self) -> bool:
        return any(part.reads_logits for part in self._parts)

    def gradients(self, engine: Engine) -> None:
        for part in self._parts:
            part.gradients(engine)

    def stepped(self, engine: Engine) -> None:
        for part in self._parts:
            part.stepped(engine)

    def end_task(self, engine: Engine, index: int) -> None:
        for part in self._in_turn:
            part.end_task(engine, index)

    def evaluating(self, task: int | None) -> AbstractContextManager[None]:
        # Both are open when this returns; whoever closes the stack closes them in reverse order.
        stack = ExitStack()
        for part in self._parts:
            stack.enter_context(part.evaluating(task))
        return stack  # type: ignore[return-value]

    def terms(self) -> dict[str, float]:
        return {f"{part.name}.{name}": value for part in self._parts for name, value in part.terms().items()}

    def state(self) -> dict[str, Tensor]:
        # Prefixed by their place, not by name: a prefix of fixed length comes off again safely.
        return {f"{i}.{name}": x for i, part in enumerate(self._parts) for name, x in part.state().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        # Two characters come off again: the digit of the place and the dot.
        for i, part in enumerate(self._parts):
            part.restore({name[2:]: x for name, x in state.items() if name.startswith(f"{i}.")})


def _check_pair(first: Strategy, second: Strategy) -> None:
    typed = f"strategy@also={second.name}"
    if type(first) is type(second):
        raise ValueError(f"{typed}: is strategy={first.name} again")
    refusal = f"{typed}: does not go with strategy={first.name}"
    for point in SINGLE:
        if first.acts_at(point) and second.acts_at(point):
            raise ValueError(f"{refusal} ({point})")
    for part, other in ((first, second), (second, first)):
        if part.acts_at("phases") and other.acts_at("memory"):
            raise ValueError(f"{refusal}: what is learned from holds all data, and a memory would add some again")
        if part.renews and other.anchors:
            raise ValueError(f"{refusal}: parameters that are new with each task have no values to stay near")
        if part.needs_steps and not other.learns:
            raise ValueError(f"{refusal}: one acts only at slow steps, and the other takes none")
