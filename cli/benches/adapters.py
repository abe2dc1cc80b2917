"""Every adapter in the main job's model: its training step, and its time per token by length.

Shapes: B batch, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

import torch
import torch.nn.functional as F

from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.meter import flops_of, seconds_in_products
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.learner import Reader
from ttt.run.assemble import Assembly
from ttt.stream import Batch

LENGTHS = (512, 2048, 8192)
# One row at a time: more rows would share the fixed cost of small operations in short sequences.
LONG_BATCH = 1
STEP_BATCH, STEP_LENGTH = 16, 256
DECODED = 32
PREFIX = 64
# The main job's vocabulary of 256, from the one source that has sequences of any length. Only its
# sizes matter: the benchmark draws its own tokens.
DATA = (
    "source=recall",
    "source.num_keys=128",
    "source.num_values=128",
    "task.num_tasks=2",
    "task.batch_size=1",
    "task.eval_sequences=1",
    "base=none",
)


def measure_adapters(adapters: list[str], *, rounds: int) -> Iterator[Row]:
    """Yield one row per adapter: medians of paired rounds; seconds are CPU time of this machine."""
    plain_step = training_call(_assembly("none", STEP_LENGTH), batch=STEP_BATCH, length=STEP_LENGTH)
    plain_flops, plain_products = flops_of(plain_step), seconds_in_products(plain_step)
    for name in adapters:
        try:
            short = _assembly(name, STEP_LENGTH)
        # Some adapters serve other streams only, such as those with rewards.
        except ValueError as error:
            yield {"adapter": name, "why not": str(error)}
            continue
        step = training_call(short, batch=STEP_BATCH, length=STEP_LENGTH)
        seconds = paired({"none": plain_step, name: step}, rounds=rounds)
        calls = {
            str(length): training_call(_assembly(name, length), batch=LONG_BATCH, length=length) for length in LENGTHS
        }
        by_length = paired(calls, rounds=rounds)
        shortest, longest = (by_length[str(length)] for length in (LENGTHS[0], LENGTHS[-1]))
        reading = paired({name: reading_call(short, LENGTHS[-1])}, rounds=min(rounds, 3))[name]
        decoding = paired({name: decoding_call(short)}, rounds=min(rounds, 3))[name]
        state = short.learner.adapter.initial()
        yield {
            "adapter": name,
            "training step over none": ratio(seconds[name], seconds["none"]).median,
            # What products alone would take, if all ran at one speed.
            "FLOPs over none": flops_of(step) / plain_flops,
            # The plain step with the products of this one, as if all else took no time.
            "with its products alone": 1 + (seconds_in_products(step) - plain_products) / median(seconds["none"]),
            **{f"us/token at {length}": median(s) / int(length) * 1e6 for length, s in by_length.items()},
            # Per token: 1 means that the time grows with the length and no faster.
            f"{LENGTHS[-1]} over {LENGTHS[0]}": ratio(longest, shortest).median * LENGTHS[0] / LENGTHS[-1],
            f"us/token reading {LENGTHS[-1]}": min(reading) / LENGTHS[-1] * 1e6,
            "ms/token decoding": min(decoding) / DECODED * 1e3,
            "state numbers": str(sum(x.numel() for x in state.values())),
        }


def _assembly(adapter: str, length: int) -> Assembly:
    """Build the main job with this adapter, for sequences of `length` tokens."""
    threads = f"trainer.threads={torch.get_num_threads()}"
    return assembly_of(*DATA, f"adapter={adapter}", f"task.seq_len={length}", threads)


def training_call(assembly: Assembly, *, batch: int, length: int) -> Callable[[], None]:
    """Return a forward and backward pass on random tokens that starts from an empty fast state."""
    learner, half = assembly.learner, assembly.settings.precision == "bf16-mixed"
    tokens_BT = _random_tokens(assembly, batch, length)
    rows = Batch(tokens_BT, tokens_BT.roll(-1, 1), torch.zeros_like(tokens_BT))
    # From an empty state in every call: the cost must not depend on what earlier calls wrote.
    state = learner.adapter.initial()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits_BTV, _ = learner(rows, state)
            loss = F.cross_entropy(logits_BTV.float().flatten(0, 1), rows.targets_BT.flatten())
        loss.backward()
        learner.zero_grad()

    return step


def reading_call(assembly: Assembly, length: int) -> Callable[[], None]:
    """Return a call that reads a text at once, as a reader does, without gradients."""
    tokens_BT = _random_tokens(assembly, 1, length)

    def read() -> None:
        Reader(assembly.learner).read(tokens_BT)

    return read


def decoding_call(assembly: Assembly) -> Callable[[], None]:
    """Return a call that reads DECODED tokens one by one, after a prefix that was read at once."""
    tokens_BT = _random_tokens(assembly, 1, PREFIX)
    reader = Reader(assembly.learner)
    reader.read(tokens_BT)

    def decode() -> None:
        for t in range(DECODED):
            reader.read(tokens_BT[:, t : t + 1])

    return decode


def _random_tokens(assembly: Assembly, batch: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(assembly.stream.vocab_size, (batch, length), generator=generator)
