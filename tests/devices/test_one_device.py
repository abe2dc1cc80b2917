"""`OneDevice` against Lightning's Fabric on one device."""

from __future__ import annotations

from assembling import assembled
from learning import engine_of, losses_of
from lightning.fabric import Fabric
from vectors import VECTORS


def test_one_device_computes_what_fabric_does():
    ours, theirs = assembled(*VECTORS, "optimizer.clip=0.5"), assembled(*VECTORS, "optimizer.clip=0.5")
    by_fabric = theirs.engine(Fabric(accelerator="cpu", devices=1), None)
    assert losses_of(engine_of(ours), ours, 0, steps=5) == losses_of(by_fabric, theirs, 0, steps=5)
