"""Two strategies at once, as in `strategy=replay strategy@also=l2_init`: each point asks both, in this order; but what
puts other weights in place of learned ones does so first, so that the other sees those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from torch import Tensor, nn

from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.stream import Batch, Phase, Stream

# Of these a run has one.
SINGLE = ("phases", "memory", "evaluating")


@contextmanager
def second_refuses() -> Iterator[None]:
    """What the second strategy refuses is told in the words that were typed for it."""
    try:
        yield
    except ValueError as error:
        # A strategy calls its arguments by the place where they most often stand.
        raise ValueError(str(error).replace("strategy.", "also.", 1)) from error


class Both(Strategy):
    def __init__(self, first: Strategy, second: Strategy) -> None:
        super().__init__(name=f"{first.name}+{second.name}")
        if type(first) is type(second):
            raise ValueError(f"strategy@also={second.name}: is strategy={first.name} again")
        for point in SINGLE:
            if first.acts_at(point) and second.acts_at(point):
                raise ValueError(f"strategy@also={second.name}: does not go with strategy={first.name} ({point})")
        for one, other in ((first, second), (second, first)):
            refused = f"strategy@also={second.name}: does not go with strategy={first.name}: "
            if one.acts_at("phases") and other.acts_at("memory"):
                raise ValueError(f"{refused}what is learned from holds all data, and memory would be more of them")
            if one.renews and other.anchors:
                raise ValueError(f"{refused}parameters that are new with each task have no values to stay near")
            if one.needs_steps and not other.learns:
                raise ValueError(f"{refused}it takes no slow step, and the other acts at slow steps alone")
        self._parts = (first, second)
        self._in_turn = sorted(self._parts, key=lambda part: not part.replaces)
        self.is_fresh = first.is_fresh or second.is_fresh
        self.renews = first.renews or second.renews
        self.learns = first.learns and second.learns
        self.needs_likelihood = first.needs_likelihood or second.needs_likelihood
        order = ("one", "ddp", "any")
        self.runs_on = min((first.runs_on, second.runs_on), key=order.index)

    def acts_at(self, *points: str) -> bool:
        return any(part.acts_at(*points) for part in self._parts)

    def phases(self, stream: Stream) -> Sequence[Phase]:
        first, second = self._parts
        changed = [first.phases(stream)]
        with second_refuses():
            changed.append(second.phases(stream))
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
        given = [part.memory(batch, step=step) for part in self._parts]
        return next((rows for rows in given if rows is not None), None)

    def extra(self, learner: Learner, batch: Batch, logits_BTV: Tensor, *, own: int) -> Tensor | None:
        given = [part.extra(learner, batch, logits_BTV, own=own) for part in self._parts]
        terms = [term for term in given if term is not None]
        return sum(terms[1:], terms[0]) if terms else None

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
        stack = ExitStack()
        for part in self._parts:
            stack.enter_context(part.evaluating(task))
        return stack  # type: ignore[return-value]

    def terms(self) -> dict[str, float]:
        return {f"{part.name}.{name}": value for part in self._parts for name, value in part.terms().items()}

    def state(self) -> dict[str, Tensor]:
        return {f"{i}.{name}": x for i, part in enumerate(self._parts) for name, x in part.state().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        for i, part in enumerate(self._parts):
            part.restore({name[2:]: x for name, x in state.items() if name.startswith(f"{i}.")})
