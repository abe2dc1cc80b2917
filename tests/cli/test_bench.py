"""What a benchmark counts, on calls counted by hand; and the command as one types it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ttt.cli.benches.meter import cost


def test_operations_of_products_by_hand():
    a, b, c = torch.zeros(2, 3, 4), torch.zeros(2, 4, 5), torch.zeros(2, 3, 5)
    assert cost(lambda: torch.bmm(a, b)).flops == 2 * 2 * 3 * 4 * 5
    assert cost(lambda: c.baddbmm_(a, b)).flops == 2 * 2 * 3 * 4 * 5
    assert cost(lambda: torch.baddbmm(c, a, b)).flops == 2 * 2 * 3 * 4 * 5


def test_bytes_by_hand():
    """Ten sums one after another: each reads one vector and makes one, and two are alive at a time."""
    x = torch.zeros(1000)

    def chain():
        y = x
        for _ in range(10):
            y = y + 1

    counted = cost(chain)
    assert counted.touched == 10 * 2 * 4000
    assert counted.peak == 2 * 4000


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["kernel"], "invalid choice: 'kernel'"),
        (["kernels", "--type", "float23"], "--type float23: did you mean float32?"),
        (["adapters", "--adapter", "mlpfast"], "--adapter mlpfast: did you mean mlp_fast?"),
        (["harness", "--rounds", "0"], "--rounds 0: must be at least 1"),
    ],
)
def test_wrong_words(args, message):
    command = [sys.executable, "-m", "ttt.cli.bench", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
