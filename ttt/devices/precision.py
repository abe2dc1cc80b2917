"""Which precision the hardware computes fast in."""

from __future__ import annotations

from pathlib import Path

import torch


def best_precision(device: torch.device) -> str:
    """bf16 where the hardware multiplies it fast (CPUs with AMX, recent GPUs), else fp32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and _has_amx()
    return "bf16-mixed" if fast else "32-true"


def _has_amx() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "amx_bf16" in flags.read_text()
