"""What one of several processes does in tests/test_devices.py: a module of its own, so that it can be spawned."""

from __future__ import annotations

import torch
from lightning.fabric import Fabric

from ttt.assemble import assemble
from ttt.train import Engine, train

STEPS = 5


def learn(fabric: Fabric, config: dict[str, object], file: str) -> None:
    torch.set_num_threads(1)
    assembly = assemble(config, trusted=[])
    engine = Engine.build(fabric, assembly.learner, assembly.learner.configure_optimizers())
    seen: list[torch.Tensor] = []
    step = engine.learner.training_step

    def spy(batch, index):
        seen.append(batch.tokens_BT)
        return step(batch, index)

    engine.learner.training_step = spy
    tokens = sum(p.tokens for p in train(engine, assembly.stream.phases[0], steps=STEPS, report_every=2))
    content = {"slow": dict(engine.learner.model.state_dict()), "seen": torch.stack(seen), "tokens": tokens}
    torch.save(content, f"{file}.{fabric.global_rank}")
