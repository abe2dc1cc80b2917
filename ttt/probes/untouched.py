"""Read with a learner and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ttt.learner import Learner

# Spread of the numbers that stand in for zeros, as embeddings start.
SPREAD = 0.02


@contextmanager
def untouched(learner: Learner) -> Iterator[None]:
    """Let every part of the learner be heard while open; afterwards it is as it was, bit for bit.

    A memory whose output starts at zero moves no score, whatever leaks into it. Matrices of zeros
    therefore hold small numbers while open. Random numbers of the run are not used up.
    """
    modes = {module: module.training for module in learner.modules()}
    silent = [parameter for parameter in learner.parameters() if parameter.dim() > 1 and not parameter.any()]
    zeros, fast = [parameter.data for parameter in silent], learner.fast
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        try:
            learner.eval()
            for parameter in silent:
                # `.data` is exchanged and not written to, so that the zeros come back as they were.
                parameter.data = SPREAD * torch.randn(parameter.shape, generator=generator).to(parameter)
            yield
        finally:
            for parameter, data in zip(silent, zeros, strict=True):
                parameter.data = data
            for module, is_training in modes.items():
                module.training = is_training
            learner.fast = fast
