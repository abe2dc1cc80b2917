"""What cannot read a text that never ends, in the words of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttt.adapters.evolving import Evolving
from ttt.learner import Learner
from ttt.learner.reader import ATTENTION
from ttt.serving.lanes import Lane


def check_writes(learner: Learner, adapter: Mapping[str, Any]) -> None:
    """Raise ValueError for an adapter that writes nothing while it reads on.

    `adapter`: its section of the config.
    """
    if isinstance(learner.adapter, Evolving):
        raise ValueError(f"adapter={adapter['name']}: its fast weights are prompts, which no reading writes")
    # Nor could it be kept open: its tokens would pile up until an end that never comes.
    for key in ("write_at", "test_write_at"):
        if adapter.get(key) == "document":
            raise ValueError(f"adapter.{key}=document: writes when a document ends, and a text that goes on has no end")


def check_attention(learner: Learner, lane: Lane) -> None:
    """Raise ValueError where attention would keep every token: memory would grow with the text."""
    keeps = any(name.startswith(ATTENTION) for name in lane)
    if keeps and getattr(learner.model, "window", None) is None:
        raise ValueError(
            "model.window=null: attention keeps every token, so memory would grow with the text; "
            "bound it with --context N (tokens that attention sees)"
        )
