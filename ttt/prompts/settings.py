"""Arguments of adapters that hold prompts: their kinds, and the checks that relate several."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from ttt.config.extras import install
from ttt.prompts.proposers import Informed, Mutate, ProposeTexts, TokenProposer, import_function
from ttt.stream import Layout

# No "sequence": prompts outlive a sequence, and reading one writes none.
PromptReset = Literal["task", "never"]
ProposerName = Literal["mutate", "informed", "callable", "random"]
SearchName = Literal["pool", "gepa"]
AcceptRule = Literal["improvement", "equal"]
Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]


def build_proposer(
    proposer: ProposerName, propose: str | None, *, search: SearchName, layout: Layout
) -> TokenProposer | None:
    """Return the proposer of a search; None for proposer=random, which does not search.

    Raises ValueError.
    """
    if (propose is not None) != (proposer == "callable"):
        needs = "needs adapter.propose=package.module:function" if propose is None else "takes no adapter.propose"
        raise ValueError(f"adapter.proposer={proposer}: {needs}")
    if search == "gepa" and proposer == "random":
        raise ValueError("adapter.search=gepa: proposer=random does not search; use search=pool")
    if search == "gepa":
        check_package()
    if proposer == "random":
        return None
    if propose is not None:
        # Only a user's function is forgiven; a failure in ours is a bug to be seen.
        return TokenProposer(import_function(propose), layout, forgive=True)
    function: ProposeTexts = Informed(layout) if proposer == "informed" else Mutate(layout)
    return TokenProposer(function, layout, forgive=False)


def check_emit(*, emit: int, pool: int) -> None:
    """Raise ValueError where more prompts are to be used than the pool holds."""
    if emit > pool:
        raise ValueError(f"adapter.emit={emit}: must not exceed adapter.pool={pool}")


def check_package() -> None:
    """Raise ValueError where the package that search=gepa needs is missing."""
    # Looked up and not imported: most runs never use it.
    if find_spec("gepa") is None:
        raise ValueError(f"adapter.search=gepa: gepa is not installed: {install('gepa')}")
