"""How long a run still takes, from the first report on.

Base, stream and evaluations are counted in tokens that are read. What was not measured yet is taken
from what was: the stream runs as fast as its base, and reading takes a third of learning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ttt.results.events import Evaluated, Event, Trained
from ttt.run.assemble import Assembly

# A step goes forward once and backward, which takes twice as long.
READING = 1 / 3


@dataclass
class Forecast:
    """`base`, `stream`: tokens to learn; `columns`: the tasks measured in each row of R.

    `reading`: the tokens that measuring one task takes, over all modes.
    """

    base: int
    stream: int
    columns: list[int]
    reading: int
    # Seconds to learn a token, and to measure a task.
    _pace: float | None = field(default=None, init=False)
    _measuring: float | None = field(default=None, init=False)
    # Tokens of the stream, and rows of R, that are behind the run.
    _learned: int = field(default=0, init=False)
    _rows: int = field(default=0, init=False)

    @classmethod
    def of(cls, assembly: Assembly, *, modes: int) -> Forecast:
        """What a checked run has before it."""
        stream, plan = assembly.stream, assembly.plan
        per_step = stream.phases[0].batch(0).num_tokens
        trained = assembly.config["base"].get("steps", 0) if stream.base is not None else 0
        return cls(
            base=trained * (stream.base.batch(0).num_tokens if stream.base is not None and trained else 0),
            stream=stream.steps * per_step,
            columns=[len(plan.columns(row, stream=stream)) for row in range(len(stream.phases) + 1)],
            reading=stream.tasks[0].evaluation().num_tokens * modes,
        )

    def hear(self, event: Event, *, seconds: float) -> None:
        """Take note of an event, `seconds` after the one before it."""
        if isinstance(event, Trained):
            self._pace = 1 / event.tokens_per_second
            if event.task == 0:
                # The steps that are left are counted in
                # tokens, as many a step as on average so far.
                self.base = round(event.tokens * (event.task_steps / event.task_step - 1))
            else:
                self.base, self._learned = 0, event.tokens
        elif isinstance(event, Evaluated):
            self.base, self._rows = 0, event.row + 1
            # Most of the time since the last report of training went to this row.
            self._measuring = seconds / len(event.columns)

    def left(self) -> float | None:
        """Seconds until the end; None before anything was learned."""
        if self._pace is None:
            return None
        measuring = self.reading * self._pace * READING if self._measuring is None else self._measuring
        return (self.base + self.stream - self._learned) * self._pace + sum(self.columns[self._rows :]) * measuring
