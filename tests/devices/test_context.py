"""Several processes read one sequence as one process does: real gloo processes on a CPU.

Shapes: B rows, T time, D model width, F feed-forward width, S tokens of the halo.
"""

from __future__ import annotations

import pytest
import torch
from assembling import last_of, refusal_of
from harness import FAST, SMALL
from sharing import backward_once, config_of, learn, together
from torch.testing import assert_close

from ttt.models.nano import attend

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("devices")

DDP = ("trainer=ddp",)
MLP = (*FAST, "adapter.step=0.5", "adapter.reset=task")
DELTA = ("adapter=delta_fast", "adapter.reset=task")
TITANS = ("adapter=titans_fast", "adapter.chunk=4", "adapter.reset=task")
# A rule that corrects errors, with all that a state may consist of.
ERRORS = (*MLP, "adapter.rule=delta", "adapter.momentum=0.5", "adapter.centre=true", "adapter.chunk=2")
# What is read, and whether rows are packed with documents that begin anywhere.
TWO = {
    "window": (["adapter=none"], False),
    "full attention": (["adapter=none", "model.window=null"], True),
    "mlp_fast": ([*MLP], False),
    "mlp_fast, error correction, packed": ([*ERRORS], True),
    "delta_fast": ([*DELTA], False),
    "titans_fast, packed": ([*TITANS], True),
    "through_writes=false": ([*MLP, "adapter.through_writes=false"], False),
}
FOUR = {
    # The halo of 8 tokens lies on two processes of 4.
    "window over two processes": (["adapter=none", "model.window=9", "trainer.context_parallel=4"], False),
    "mlp_fast": ([*MLP, "adapter.reset=sequence", "trainer.context_parallel=4"], True),
    "rows and columns": ([*DELTA, "trainer.context_parallel=2"], True),
    "in parts": ([*MLP, "trainer.context_parallel=2", "trainer.accumulate=2"], False),
}
STEPS = 4
LONG = ["adapter=none", "task.seq_len=64"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What each process returned, by the number of processes and the case."""
    folder = tmp_path_factory.mktemp("context")
    two = (*DDP, "trainer.context_parallel=2")
    jobs = {
        2: {name: job(*two, *words, packed=packed) for name, (words, packed) in TWO.items()}
        | {"learn": ("learn", {"config": config_of(*two, *MLP), "steps": STEPS}), "long": job(*two, *LONG)},
        4: {name: job(*DDP, *words, packed=packed) for name, (words, packed) in FOUR.items()}
        | {"long": job(*DDP, *LONG, "trainer.context_parallel=4")},
    }
    outcomes = {}
    for ranks, work in jobs.items():
        by_process = together(list(work.values()), folder / str(ranks), ranks=ranks)
        outcomes |= {(ranks, name): both for name, both in zip(work, zip(*by_process, strict=True), strict=True)}
    return outcomes


def job(*words, packed=False):
    return "backward_once", {"config": config_of(*words), "packed": packed}


@pytest.mark.parametrize(
    ("ranks", "name"), [*((2, name) for name in TWO), *((4, name) for name in FOUR)], ids=lambda x: str(x)
)
def test_loss_gradients_and_state_are_those_of_one_process(shared, ranks, name):
    words, packed = (TWO if ranks == 2 else FOUR)[name]
    alone = backward_once(config_of(*words, "trainer.context_parallel=1", "trainer.accumulate=1"), packed=packed)
    for process in shared[ranks, name]:
        for what in ("loss", "gradients", "fast"):
            assert_close(process[what], alone[what], atol=1e-7, rtol=1e-7)


def test_steps_and_measurements_are_those_of_one_process(shared):
    alone = learn(config_of(*MLP), STEPS)
    for process in shared[2, "learn"]:
        for what in ("losses", "scores", "fast"):
            ours, theirs = (torch.tensor(x[what]) if what == "losses" else x[what] for x in (process, alone))
            assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_what_crosses_is_a_halo_and_a_state_in_each_layer(shared):
    """Keys and values of window - 1 tokens and D F numbers of state for each row; not T of anything."""
    layers, rows, width, mlp_width, window, taps, heads = 2, 4, 16, 24, 4, 4, 4
    halo = 2 * rows * (window - 1) * width
    conv = rows * (taps - 1) * 3 * width
    states = {
        "window": 0,
        "mlp_fast": rows * width * mlp_width,
        "delta_fast": rows * width * width // heads + conv,
    }
    for name, state in states.items():
        # Forward from the first to the second process; gradients of the same size back.
        assert [process["sent"] for process in shared[2, name]] == [8 * layers * (halo + state)] * 2


def test_a_process_keeps_its_share_of_what_one_process_keeps(shared):
    alone = backward_once(config_of(*LONG), packed=False)["saved"]
    two, four = (max(process["saved"] for process in shared[ranks, "long"]) for ranks in (2, 4))
    assert two < 0.6 * alone
    assert four < 0.4 * alone


@pytest.mark.parametrize("window", [1, 3, 7, 100, None])
@pytest.mark.parametrize("start", [1, 4, 10])
def test_later_queries_need_the_window_before_them_alone(window, start):
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 11, 4, generator=generator, dtype=torch.float64)
    segment_BT = torch.arange(11).div(4, rounding_mode="floor").expand(2, -1)
    whole = attend(q, k, v, window=window, segment_BA=segment_BT)
    first = max(0, start - (window or 12) + 1)
    later = attend(q[:, :, start:], k[:, :, first:], v[:, :, first:], window=window, segment_BA=segment_BT[:, first:])
    assert_close(later, whole[:, :, start:])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trainer.strategy=single", "trainer.devices=1"], ["trainer.context_parallel=2", "trainer=ddp"]),
        (["trainer.context_parallel=3"], ["trainer.context_parallel=3", "2 processes"]),
        (["trainer.strategy=fsdp"], ["trainer.context_parallel=2", "trainer.strategy=fsdp"]),
        (["task.seq_len=15"], ["trainer.context_parallel=2", "task.seq_len=15"]),
        (["adapter.chunk=3"], ["adapter.chunk=3", "8"]),
        (["adapter=lact_fast"], ["adapter=lact_fast"]),
        (["adapter.write_at=document"], ["write_at=chunk"]),
        (["adapter.carry=lane"], ["adapter.carry=lane"]),
        (["trainer.devices=4", "task.batch_size=3"], ["task.batch_size=3", "trainer.context_parallel=2"]),
    ],
)
def test_what_cannot_be_shared_is_refused_in_one_line(words, parts):
    devices = ["trainer.devices=2", "trainer.context_parallel=2"]
    message = refusal_of(*last_of(*SMALL, *FAST, "base=none", *DDP, *devices, *words))
    assert all(part in message for part in parts)
