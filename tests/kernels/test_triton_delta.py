"""The Triton kernel of the delta rule against the definition and the torch form.

It runs on a GPU, or in Triton's interpreter (test_triton.py starts it there).
"""

from __future__ import annotations

import pytest
import torch
from kernel_cases import call, outcome
from triton_cases import CLOSE, close, delta_case, delta_kernel, exact, kernels

from ttt.kernels.delta.chunk import delta_chunk
from ttt.kernels.delta.naive import delta_naive

pytestmark = kernels
# Key and value widths of less than a tile, several tiles, and no whole number of tiles.
WIDTHS = [(3, 16), (16, 24), (24, 3), (24, 70)]


@pytest.mark.parametrize(("k", "v"), WIDTHS)
@pytest.mark.parametrize("t", [1, 7, 33])
@pytest.mark.parametrize("dtype", CLOSE)
def test_delta_equals_the_definition(t, k, v, dtype):
    inputs = delta_case(t, t, k, v, dtype)
    read, last = call(delta_kernel, inputs)
    expected_read, expected_last = call(delta_naive, exact(inputs))
    assert read.dtype == dtype
    assert last.dtype == torch.float32
    close(read, expected_read, CLOSE[dtype])
    # Reads are rounded to bf16, but the state keeps 16 bits and more.
    close(last, expected_last, CLOSE[torch.float32] if dtype == torch.float32 else 1e-4)


def test_one_key_again_and_again():
    """Powers of the system reach 1e8 here; its inverse consists of ones and minus ones."""
    inputs = delta_case(0, 32, 16, 24, torch.bfloat16)
    inputs["k_BTK"] = torch.full_like(inputs["k_BTK"], 0.25)
    inputs["beta_BT"], inputs["gate_BT"] = torch.ones_like(inputs["beta_BT"]), torch.ones_like(inputs["gate_BT"])
    _, expected = call(delta_naive, exact(inputs))
    close(call(delta_kernel, inputs)[1], expected, 1e-4)


def test_a_gate_of_zero_forgets_and_padding_changes_nothing():
    inputs = delta_case(3, 20, 16, 24)
    inputs["gate_BT"][:, 5] = 0.0
    expected_read, expected = call(delta_kernel, inputs)
    _, from_another_state = call(delta_kernel, inputs | {"state_BVK": inputs["state_BVK"] + 1e6})
    assert torch.equal(from_another_state, expected)
    padded = {key: torch.cat([x, torch.ones_like(x[:, :3])], 1) for key, x in inputs.items() if key != "state_BVK"}
    padded["beta_BT"][:, 20:] = 0.0
    read, last = call(delta_kernel, padded | {"state_BVK": inputs["state_BVK"]})
    assert torch.equal(last, expected)
    assert torch.equal(read[:, :20], expected_read)


@pytest.mark.parametrize("learned", [set(delta_case(0, 1, 3, 3)), {"v_BTV"}, {"gate_BT", "state_BVK"}], ids=len)
@pytest.mark.parametrize("t", [1, 7, 33])
def test_delta_has_the_torch_forms_gradients(t, learned):
    inputs = delta_case(t, t, 16, 24)
    outcomes = [outcome(form, inputs, learned=learned) for form in (delta_kernel, delta_chunk)]
    for got, expected in zip(*outcomes, strict=True):
        close(got, expected, 1e-5)
