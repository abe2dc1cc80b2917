"""The result of `ttt-stream`, as a table and as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from ttt.cli.probes.show import new_table
from ttt.serving.meter import Score, Stretch, joined
from ttt.serving.rules import Event
from ttt.serving.session import TextSession

# Lines of a table: stretches of one text, or texts.
LINES, TEXTS = 16, 40


def event_numbers(event: Event) -> dict[str, Any]:
    """An event as JSON: the same reading gives the same bytes, so it has no clock in it."""
    head = {"event": event.kind, "session": event.session, "tokens": event.read, "bytes": event.end}
    return head | score_bits(event.score) | {"norm": event.norm}


def score_bits(score: Score) -> dict[str, float | None]:
    """Bits per byte, and those of the same model without writes."""
    return {"bits": score.bits, "bits_without_writes": score.plain_bits}


def line_of(event: Event) -> str:
    return f"{event.norm:.4g} after {event.end:,} bytes of {event.session}"


def session_numbers(session: TextSession) -> dict[str, Any]:
    """All that was measured of a text."""
    meter = session.meter
    # Not by `asdict`: whoever reads the file wants bits and not nats.
    points = [{"end": p.end, "norm": p.norm, **score_bits(p.score)} for p in meter.points]
    sizes = {"tokens": meter.read, "bytes": meter.size, "norm": meter.norm}
    return {**sizes, **score_bits(meter.total), "points": points}


def total_of(sessions: Mapping[str, TextSession]) -> Score:
    """The score of all texts together."""
    everything = Score()
    for session in sessions.values():
        everything.add(session.meter.total)
    return everything


def result_of(sessions: Mapping[str, TextSession]) -> tuple[str, Table]:
    """Bits per byte over one text, or a line for each of several: what they are, and a table."""
    if len(sessions) == 1:
        (session,) = sessions.values()
        points = session.meter.points
        # Neighbouring stretches become one, until a screen has room for them.
        step = -(-len(points) // LINES) or 1
        rows = [_point(joined(points[i : i + step])) for i in range(0, len(points), step)]
        rows.append(["all", *_cells(session.meter.total), f"{session.meter.norm:.4g}"])
        return f"bits per byte of {session.name}, in stretches that end at", _table("byte", rows)
    rows = [_text(session) for session in list(sessions.values())[:TEXTS]]
    rest = f", {len(sessions) - TEXTS} more not shown" if len(sessions) > TEXTS else ""
    size = sum(session.meter.size for session in sessions.values())
    rows.append(["all", *_cells(total_of(sessions)), "", f"{size:,}"])
    return f"bits per byte of {len(sessions)} texts{rest}", _table("text", rows, "bytes")


def _table(first: str, rows: Sequence[Sequence[str]], *more: str) -> Table:
    table = new_table("", first, "with writes", "without", "gain", "norm", *more, left=1)
    for row in rows:
        # A name may look like markup.
        table.add_row(*map(escape, row))
    return table


def _point(point: Stretch) -> list[str]:
    return [f"{point.end:,}", *_cells(point.score), f"{point.norm:.4g}"]


def _text(session: TextSession) -> list[str]:
    meter = session.meter
    return [session.name, *_cells(meter.total), f"{meter.norm:.4g}", f"{meter.size:,}"]


def _cells(score: Score) -> list[str]:
    """Bits with writes, without, and their difference; a dash for what was not measured."""
    with_writes, without = score.bits, score.plain_bits
    gain = without - with_writes if with_writes is not None and without is not None else None
    return ["-" if x is None else f"{x:.3f}" for x in (with_writes, without, gain)]
