"""Which precision the hardware computes fast in."""

from __future__ import annotations

from pathlib import Path

import torch

# Instructions that multiply bf16: without them a CPU converts to fp32 and back.
FAST_BF16 = {"amx_bf16", "avx512_bf16"}


def best_precision(device: torch.device) -> str:
    """bf16 where the hardware multiplies it fast (recent GPUs; CPUs with AMX or AVX-512 for it).

    `ttt-bench precision` measures what a CPU gains.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bool(FAST_BF16 & _cpu_flags())
    return "bf16-mixed" if fast else "32-true"


def _cpu_flags() -> set[str]:
    """What Linux says that this CPU can do; nothing elsewhere."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())
