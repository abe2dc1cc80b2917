"""Make the base that comes with ttt, with today's code: some minutes on one core.

    python tests/guards/ship_base.py [CACHE]     CACHE: where it may lie already

Needed when tests/bases/test_shipped_bases.py says that it is outdated.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ttt.bases.shipped import WEIGHTS
from ttt.bases.until import held_out_loss
from ttt.learner import Engine
from ttt.run.assemble import assemble
from ttt.run.compose import compose_run
from ttt.storage.checkpoint import Checkpoint, load, save


def main() -> None:
    """Train the base of experiment=fst-demo and write it into the package."""
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    cache = sys.argv[1] if len(sys.argv) > 1 else "~/.cache/ttt"
    assembly = assemble(compose_run(["experiment=fst-demo", "logger=none", f"cache_dir={cache}"]), trusted=[])
    fabric = assembly.settings.fabric()
    weights = assembly.base_weights(fabric, lambda event: None)
    assert weights is not None
    assert assembly.stream.base is not None
    trained = load(Path(cache).expanduser() / "base" / assembly.base_id)
    engine = Engine.build(fabric, assembly.learner, assembly.learner.configure_optimizers(), accumulate=1)
    assembly.load(weights)
    loss = held_out_loss(engine, assembly.stream.base.evaluation())
    place = WEIGHTS / assembly.base_content
    save(place, Checkpoint(tensors=trained.tensors, state=trained.state | {"curve": [], "held_out_loss": loss}))
    print(f"wrote {place}: {loss:.4f} bits per token on held-out text")


if __name__ == "__main__":
    main()
