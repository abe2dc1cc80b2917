"""The gateway to the Triton kernels, and their tests in Triton's interpreter.

Triton decides at its import whether it compiles or interprets, and torch may import it at any time.
Without a GPU the tests in test_triton_*.py therefore run in a process of their own, which the last
test here starts. Without triton only the gateway is tested.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_cases import call
from triton_cases import (
    DEVICE,
    INSTALLED,
    delta_case,
    delta_kernel,
    inplace_kernel,
    installed,
    kernels,
    memory_case,
    outside,
    target_case,
    targets_form,
    targets_kernel,
)

from ttt.kernels.delta.chunk import delta_chunk
from ttt.kernels.dispatch import delta, fused, inplace, targets
from ttt.kernels.inplace.lean import inplace_lean

HERE = Path(__file__)


def python(arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    ours = ("TTT_TRITON", "TRITON_INTERPRET", "PYTEST_ADDOPTS")
    environment = {key: x for key, x in os.environ.items() if key not in ours} | variables
    command, root = [sys.executable, *arguments], HERE.parents[2]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_the_gateway_leaves_cpu_tensors_to_torch(monkeypatch):
    monkeypatch.delenv("TTT_TRITON", raising=False)
    x = torch.zeros(2)
    assert not fused(x)
    monkeypatch.setenv("TTT_TRITON", "interpret")
    assert fused(x) == fused(x.bfloat16()) == INSTALLED
    assert not fused(x.double())
    assert not fused(x.long())
    monkeypatch.setenv("TTT_TRITON", "off")
    assert not fused(x)


def gateway_outputs() -> list[torch.Tensor]:
    memory = call(inplace, memory_case(0, 5, 3, 16, 24), block=2)
    return [*call(delta, delta_case(0, 7, 3, 16)), *memory, call(targets, target_case(5, torch.float32))]


def form_outputs(delta_form, inplace_form, target_form) -> list[torch.Tensor]:
    memory = call(inplace_form, memory_case(0, 5, 3, 16, 24), block=2)
    return [*call(delta_form, delta_case(0, 7, 3, 16)), *memory, *call(target_form, target_case(5, torch.float32))]


def test_without_triton_the_torch_forms_answer(monkeypatch):
    monkeypatch.setenv("TTT_TRITON", "off")
    assert all(map(torch.equal, gateway_outputs(), form_outputs(delta_chunk, inplace_lean, targets_form)))


@kernels
def test_the_gateway_chooses_kernels(monkeypatch):
    monkeypatch.setenv("TTT_TRITON", "interpret")
    assert all(map(torch.equal, gateway_outputs(), form_outputs(delta_kernel, inplace_kernel, targets_kernel)))


# Without an optimizer, because that would make torch import triton.
USE = """
import sys, torch
from importlib.resources import files
from omegaconf import OmegaConf
from ttt.config.build import build
from ttt.models.nano import Nano
from ttt.stream import Batch
import ttt.kernels.dispatch

tokens = torch.arange(128).view(2, 64) % 7
shape = dict(vocab_size=7, seq_len=64, layers=1, width=16, heads=2, mlp_width=24, window=4, rope_base=1e4)
for name in ("mlp_fast", "delta_fast"):
    config = OmegaConf.load(files("ttt.conf") / "adapter" / f"{name}.yaml")
    config.pop("defaults")
    config = OmegaConf.merge({"task": {"seq_len": 64}}, {"adapter": config}).adapter
    adapter = build(OmegaConf.to_container(config, resolve=True), group="adapter", given={}, trusted=[])
    model = Nano(name="nano", **shape)
    adapter.attach(model)
    batch = Batch(tokens, tokens, torch.zeros_like(tokens))
    adapter.read(model, batch, adapter.initial(), write=True)[0].sum().backward()
ours = [name for name in sys.modules if name.startswith("ttt.kernels.")]
assert "ttt.kernels.delta.chunk" in ours and "ttt.kernels.inplace.lean" in ours
print([name for name in ours if ".triton" in name] + [name for name in sys.modules if name == "triton"])
"""


@outside
def test_nothing_imports_triton_on_a_cpu():
    done = python(["-c", USE], CUDA_VISIBLE_DEVICES="")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# Compiling to machine code for an H100 needs no GPU. The interpreter accepts code that the compiler
# does not.
TRANSLATE = """
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ttt.kernels.delta.triton import _delta_kernel
from ttt.kernels.inplace.triton_states import _states_kernel
from ttt.kernels.inplace.triton_targets import _targets_kernel

def translate(kernel, **constants):
    kinds = {name: "*bf16" if name.endswith("_ptr") else "i32" for name in kernel.arg_names}
    kinds |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, kinds, {(kernel.arg_names.index(name),): x for name, x in constants.items()})
    ready = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4, "num_stages": 2})
    print(kernel.__name__, len(ready.asm["cubin"]) > 0)

half = tl.bfloat16
translate(_delta_kernel, K=24, V=24, KP=32, VP=32, C=16, LEVELS=4, HALVES=True, MMA=half)
translate(_states_kernel, D=96, F=160, TD=64, TF=64, L=64, MMA=half)
translate(_targets_kernel, D=96, C=7, TAPS=5, M=64, K=32, P=64, THIN=half, MMA=half)
"""


@outside
@installed
def test_kernels_translate_for_a_gpu_that_is_not_there(tmp_path):
    done = python(["-c", TRANSLATE], TRITON_CACHE_DIR=str(tmp_path))
    names = ("_delta_kernel", "_states_kernel", "_targets_kernel")
    assert done.stdout.splitlines() == [f"{name} True" for name in names], done.stdout + done.stderr


@outside
@installed
@pytest.mark.skipif(DEVICE == "cuda", reason="the tests are running")
def test_in_the_interpreter():
    """Run the Triton tests of this folder in a process in which triton interprets."""
    files = [str(path) for path in sorted(HERE.parent.glob("test_triton*.py"))]
    done = python(["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *files], TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
