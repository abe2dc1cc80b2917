"""Triton kernels against definitions and torch forms: on a GPU where there is one, else in Triton's interpreter.

Triton decides while it is imported what it will be, and torch imports it when it likes: without a GPU the tests
marked `kernels` run in a process of their own. Without triton only the gateway is tested.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ttt.kernels.delta.chunk import delta_chunk, delta_naive
from ttt.kernels.dispatch import delta, fused, inplace, targets, targets_torch
from ttt.kernels.inplace.lean import inplace_lean
from ttt.kernels.inplace.naive import inplace_naive

INSTALLED = find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
outside = pytest.mark.skipif(INTERPRETED, reason="starts a process of its own")
installed = pytest.mark.skipif(not INSTALLED, reason="triton is not installed")
kernels = pytest.mark.skipif(not (INSTALLED and (INTERPRETED or DEVICE == "cuda")), reason="no GPU, no interpreter")

# What is compared: relative to the largest number in sight.
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
# Value widths of less than a tile, several tiles, and no whole number of them.
WIDTHS = [(3, 16), (16, 24), (24, 3), (24, 70)]


def close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = float(expected.detach().abs().max().clamp(min=1.0))
    torch.testing.assert_close(got.double(), expected.double(), rtol=tolerance, atol=tolerance * scale)


def drawer(seed: int, dtype: torch.dtype = torch.float32):
    """Draw normal numbers, and rates with exact zeros and ones among them."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

    def rate(*shape: int) -> Tensor:
        return (torch.rand(*shape, generator=generator) * 1.5 - 0.25).clamp(0, 1).to(DEVICE)

    return normal, rate


def delta_inputs(seed: int, t: int, k: int, v: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    normal, rate = drawer(seed, dtype)
    return {
        "q_BTK": normal(2, t, k),
        "k_BTK": normal(2, t, k) / k**0.5,
        "v_BTV": normal(2, t, v),
        "beta_BT": rate(2, t),
        "gate_BT": rate(2, t),
        "state_BVK": normal(2, v, k).float(),
    }


def memory_inputs(seed: int, n: int, c: int, f: int, d: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    normal, rate = drawer(seed, dtype)
    return {
        "q_BNCF": normal(2, n, c, f),
        "k_BNCF": normal(2, n, c, f),
        "v_BNCD": normal(2, n, c, d),
        "gate_BN": rate(2, n),
        "state_BDF": normal(2, d, f).float(),
    }


def delta_kernel(q_BTK: Tensor, **rest):
    from ttt.kernels.delta.triton import delta_triton

    return delta_triton(q_BTK, **rest)


def inplace_kernel(q_BNCF: Tensor, **rest):
    from ttt.kernels.inplace.triton import inplace_triton

    return inplace_triton(q_BNCF, **rest)


def targets_kernel(x_BNCD: Tensor, **rest):
    from ttt.kernels.inplace.triton import targets_triton

    return targets_triton(x_BNCD, **rest)


def targets_form(x_BNCD: Tensor, *, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Tensor:
    return targets_torch(x_BNCD, conv_OD, target_DD, scale_BNC1)


def call(form, inputs: dict[str, Tensor], **options: object):
    (_, first), *rest = inputs.items()
    return form(first, **dict(rest), **options)


def with_gradients(form, inputs: dict[str, Tensor], learned: set[str]) -> list[Tensor]:
    """Outputs, and the gradients of a weighted sum of their squares."""
    leaves = {key: x.detach().clone().requires_grad_(key in learned) for key, x in inputs.items()}
    outputs = call(form, leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(((n + 1) * x.float().square().sum() for n, x in enumerate(outputs))).backward()
    assert {key for key, x in leaves.items() if x.grad is not None} == learned
    return [*outputs, *(leaves[key].grad for key in sorted(learned))]


def apart(arguments: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    ours = ("TTT_TRITON", "TRITON_INTERPRET", "PYTEST_ADDOPTS")
    environment = {key: x for key, x in os.environ.items() if key not in ours} | more
    command, root = [sys.executable, *arguments], Path(__file__).parents[2]
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


def test_without_triton_the_torch_forms_answer(monkeypatch):
    monkeypatch.setenv("TTT_TRITON", "off")
    one, two = delta_inputs(0, 7, 3, 16), memory_inputs(0, 5, 3, 16, 24)
    for got, expected in zip(call(delta, one), call(delta_chunk, one), strict=True):
        assert torch.equal(got, expected)
    for got, expected in zip(call(inplace, two, block=2), call(inplace_lean, two, block=2), strict=True):
        assert torch.equal(got, expected)
    three = target_inputs(5, torch.float32)
    assert torch.equal(call(targets, three), call(targets_form, three))


# An optimizer would make torch import triton: there is none here.
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
    config = OmegaConf.merge({"task": {"seq_len": 64}}, {"adapter": config}).adapter
    adapter = build(OmegaConf.to_container(config, resolve=True), group="adapter", given={}, trusted=[])
    model = Nano(name="nano", **shape)
    adapter.attach(model)
    batch = Batch(tokens, tokens, torch.zeros_like(tokens))
    adapter.read(model, batch, adapter.initial(), write=True)[0].sum().backward()
print(sorted(name for name in sys.modules if name == "triton" or name.startswith("ttt.kernels.triton")))
"""


@outside
def test_nothing_imports_triton_on_a_cpu():
    done = apart(["-c", USE], CUDA_VISIBLE_DEVICES="")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# To translate, down to machine code for an H100, needs no GPU; the interpreter takes more than the compiler does.
TRANSLATE = """
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ttt.kernels.delta.triton import _delta_kernel
from ttt.kernels.inplace.triton import _states_kernel, _targets_kernel

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
    done = apart(["-c", TRANSLATE], TRITON_CACHE_DIR=str(tmp_path))
    names = ("_delta_kernel", "_states_kernel", "_targets_kernel")
    assert done.stdout.splitlines() == [f"{name} True" for name in names], done.stdout + done.stderr


@outside
@installed
@pytest.mark.skipif(DEVICE == "cuda", reason="the tests are running")
def test_in_the_interpreter():
    """Everything below, in a process in which triton is its interpreter."""
    done = apart(["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", __file__], TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@kernels
@pytest.mark.parametrize(("k", "v"), WIDTHS)
@pytest.mark.parametrize("t", [1, 7, 33])
@pytest.mark.parametrize("dtype", CLOSE)
def test_delta_equals_the_definition(t, k, v, dtype):
    inputs = delta_inputs(t, t, k, v, dtype)
    read, last = call(delta_kernel, inputs)
    expected_read, expected_last = call(delta_naive, {key: x.float() for key, x in inputs.items()})
    assert read.dtype == dtype
    assert last.dtype == torch.float32
    close(read, expected_read, CLOSE[dtype])
    # Rounded reads, but a state of 16 bits and more.
    close(last, expected_last, CLOSE[torch.float32] if dtype == torch.float32 else 1e-4)


@kernels
def test_one_key_again_and_again():
    """Powers of the system reach 1e8 here; its inverse is all ones and minus ones."""
    inputs = delta_inputs(0, 32, 16, 24, torch.bfloat16)
    inputs["k_BTK"] = torch.full_like(inputs["k_BTK"], 0.25)
    inputs["beta_BT"], inputs["gate_BT"] = torch.ones_like(inputs["beta_BT"]), torch.ones_like(inputs["gate_BT"])
    _, expected = call(delta_naive, {key: x.float() for key, x in inputs.items()})
    close(call(delta_kernel, inputs)[1], expected, 1e-4)


@kernels
def test_a_gate_of_zero_forgets_and_padding_is_nothing():
    inputs = delta_inputs(3, 20, 16, 24)
    inputs["gate_BT"][:, 5] = 0.0
    _, one = call(delta_kernel, inputs)
    _, other = call(delta_kernel, inputs | {"state_BVK": inputs["state_BVK"] + 1e6})
    assert torch.equal(one, other)
    padded = {key: torch.cat([x, torch.ones_like(x[:, :3])], 1) for key, x in inputs.items() if key != "state_BVK"}
    padded["beta_BT"][:, 20:] = 0.0
    read, last = call(delta_kernel, padded | {"state_BVK": inputs["state_BVK"]})
    assert torch.equal(last, one)
    assert torch.equal(read[:, :20], call(delta_kernel, inputs)[0])


@kernels
@pytest.mark.parametrize("learned", [set(delta_inputs(0, 1, 3, 3)), {"v_BTV"}, {"gate_BT", "state_BVK"}], ids=len)
@pytest.mark.parametrize("t", [1, 7, 33])
def test_delta_has_the_torch_forms_gradients(t, learned):
    inputs = delta_inputs(t, t, 16, 24)
    outcomes = [with_gradients(form, inputs, learned) for form in (delta_chunk, delta_kernel)]
    for expected, got in zip(*outcomes, strict=True):
        close(got, expected, 1e-5)


@kernels
@pytest.mark.parametrize(("f", "d", "block"), [(16, 3, 1), (24, 16, 2), (140, 24, 1), (3, 70, 3)])
@pytest.mark.parametrize("dtype", CLOSE)
def test_inplace_equals_the_definition(f, d, block, dtype, monkeypatch):
    inputs = memory_inputs(f, 7, 3, f, d, dtype)
    read, last = call(inplace_kernel, inputs, block=block)
    exact_read, exact_last = call(inplace_naive, {key: x.float() for key, x in inputs.items()})
    assert read.dtype == dtype
    assert last.dtype == torch.float32
    close(read, exact_read, CLOSE[dtype])
    # Blocks of one chunk: products of bf16 are exact in fp32, and nothing is rounded behind them.
    close(last, exact_last, 1e-5 if block == 1 else CLOSE[dtype])
    # One block at a time.
    monkeypatch.setattr("ttt.kernels.inplace.triton.STATES_BYTES", 1)
    again = call(inplace_kernel, inputs, block=block)
    assert torch.equal(again[0], read)
    assert torch.equal(again[1], last)


@kernels
@pytest.mark.parametrize("learned", [set(memory_inputs(0, 1, 1, 1, 1)), {"k_BNCF", "v_BNCD"}], ids=len)
def test_inplace_has_the_torch_forms_gradients(learned):
    inputs = memory_inputs(0, 5, 3, 24, 16)
    # One row of gates for all lanes.
    inputs["gate_BN"] = inputs["gate_BN"][:1]
    outcomes = [with_gradients(form, inputs, learned) for form in (inplace_lean, inplace_kernel)]
    for expected, got in zip(*outcomes, strict=True):
        close(got, expected, 1e-5)


def target_inputs(taps: int, dtype: torch.dtype, c: int = 3, d: int = 24) -> dict[str, Tensor]:
    normal, rate = drawer(taps, dtype)
    return {
        "x_BNCD": normal(2, 5, c, d),
        "conv_OD": normal(taps, d).float(),
        "target_DD": normal(d, d).float() / d**0.5,
        # One row of sizes for all lanes, as where every row is one document.
        "scale_BNC1": rate(1, 5, c, 1),
    }


@kernels
@pytest.mark.parametrize(("c", "d", "taps"), [(1, 3, 5), (3, 24, 3), (7, 140, 5), (3, 16, 1)])
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("mixed", [False, True])
def test_targets_equal_the_torch_form(c, d, taps, dtype, mixed):
    inputs = target_inputs(taps, dtype, c, d)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=mixed):
        expected = call(targets_form, inputs)
        got = call(targets_kernel, inputs)
    assert got.dtype == expected.dtype
    close(got, expected, CLOSE[torch.bfloat16 if mixed else dtype])


@kernels
def test_targets_have_the_torch_forms_gradients():
    inputs = target_inputs(5, torch.float32)
    outcomes = [with_gradients(form, inputs, set(inputs)) for form in (targets_form, targets_kernel)]
    for expected, got in zip(*outcomes, strict=True):
        close(got, expected, 1e-5)


@kernels
def test_the_gateway_chooses_kernels(monkeypatch):
    monkeypatch.setenv("TTT_TRITON", "interpret")
    one, two, three = delta_inputs(0, 7, 3, 16), memory_inputs(0, 5, 3, 16, 24), target_inputs(5, torch.float32)
    chosen = [*call(delta, one), *call(inplace, two, block=2), call(targets, three)]
    expected = [*call(delta_kernel, one), *call(inplace_kernel, two, block=2), call(targets_kernel, three)]
    assert all(torch.equal(*pair) for pair in zip(chosen, expected, strict=True))
