"""What a run ran on: versions, hardware, code, recorded so that a difference can be explained."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "lightning", "hydra-core", "omegaconf", "datasets", "numpy", "wandb", "safetensors")


def environment(*, code: str, data: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        "versions": {"ttt": version("ttt"), "python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "code": code,
        "git": git_state(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "data": data,
        "command": sys.argv,
    }


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def git_state() -> str | None:
    """The commit of the code, with `-dirty` for changes beyond it; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def peak_memory_bytes() -> int:
    """The largest resident set of this process so far."""
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
