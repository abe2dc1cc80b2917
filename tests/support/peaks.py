"""How much memory a process takes while a learner is set up on several devices."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest import mock

from sharing import engine_for

from ttt.devices.settings import TrainerSettings
from ttt.devices.shards import local

STATUS = Path("/proc/self/status")


def built(config: dict[str, Any], *, deferred: bool) -> dict[str, Any]:
    """Return the hash of this process's shares, and by how many MB its memory grew at most."""
    # What any first model costs, such as imports, is no memory of this one.
    engine_for(config | {"model": config["model"] | {"width": 16, "layers": 1, "mlp_width": 16}})
    before = _megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    with mock.patch.object(TrainerSettings, "is_cut", deferred):
        _, engine = engine_for(config)
    peak = _megabytes("VmHWM") - before
    digest = hashlib.sha256()
    for name, parameter in engine.learner.named_parameters():
        digest.update(name.encode() + local(parameter.detach()).numpy().tobytes())
    return {"hash": digest.hexdigest(), "peak": peak}


def _megabytes(key: str) -> float:
    lines = dict(line.split(":") for line in STATUS.read_text().splitlines())
    return int(lines[key].split()[0]) / 1024
