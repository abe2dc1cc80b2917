"""`base=pretrained`: the stream begins from the weights that the model was published with."""

from __future__ import annotations

from ttt.bases.none import NoBase


class PretrainedBase(NoBase):
    """`seed` decides which classes are held out, and what an adapter draws at its start."""
