"""What may be asked of adapters that hold prompts, checked in the words of who typed it."""

from __future__ import annotations

from importlib.util import find_spec

from ttt.config.messages import suggest
from ttt.prompts.proposers import Asked, Informed, Mutate, Propose, imported
from ttt.stream import Layout

RESETS = ("task", "never")
PROPOSERS = ("mutate", "informed", "callable", "random")
SEARCHES = ("pool", "gepa")
ACCEPTS = ("improvement", "equal")


def asked(proposer: str, propose: str | None, *, search: str, layout: Layout) -> Asked | None:
    """Who proposes; None: chance alone. Raises ValueError."""
    if (propose is not None) != (proposer == "callable"):
        needs = "needs adapter.propose=package.module:function" if propose is None else "takes no adapter.propose"
        raise ValueError(f"adapter.proposer={proposer}: {needs}")
    if search == "gepa" and proposer == "random":
        raise ValueError("adapter.search=gepa: proposer=random searches for nothing; use search=pool")
    if search == "gepa":
        check_package()
    if proposer == "random":
        return None
    if propose is not None:
        return Asked(imported(propose), layout, forgive=True)
    own: Propose = Informed(layout) if proposer == "informed" else Mutate(layout)
    return Asked(own, layout, forgive=False)


def check_counts(*, emit: int, pool: int, proposals: int, minibatch: int, problems: int) -> None:
    """Raises ValueError."""
    counts = {"emit": emit, "pool": pool, "proposals": proposals, "minibatch": minibatch, "problems": problems}
    for argument, value in counts.items():
        if value < 1:
            raise ValueError(f"adapter.{argument}={value}: must be at least 1")
    if emit > pool:
        raise ValueError(f"adapter.emit={emit}: must not exceed adapter.pool={pool}")


def check_choices(*, reset: str, proposer: str, search: str, accept: str) -> None:
    """Raises ValueError."""
    check_reset(reset)
    for argument, value, allowed in (
        ("proposer", proposer, PROPOSERS),
        ("search", search, SEARCHES),
        ("accept", accept, ACCEPTS),
    ):
        if value not in allowed:
            raise ValueError(f"adapter.{argument}={value}: unknown; {suggest(value, allowed)}")


def check_reset(reset: str) -> None:
    """Raises ValueError."""
    if reset == "sequence":
        raise ValueError("adapter.reset=sequence: prompts outlive a sequence, which writes none; must be task or never")
    if reset not in RESETS:
        raise ValueError(f"adapter.reset={reset}: unknown; {suggest(reset, RESETS)}")


def check_package() -> None:
    """Raises ValueError where what search=gepa needs is missing."""
    if find_spec("gepa") is None:
        raise ValueError('adapter.search=gepa: gepa is not installed: pip install "ttt[gepa]"')
