"""What fast weights cost a pretrained model: prefill, decoding and a training step.

Each side is divided by transformers' published `forward` of the same weights on the same tokens.
Shapes: B batch, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

import torch
import torch.nn.functional as F

from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.learner import Learner, Reader
from ttt.models.hf import HfModel, cache_argument
from ttt.stream import Batch

BATCH, LENGTH, DECODED = 1, 512, 8
# Sides beside the plain model behind this project's interface.
SIDES = {
    "none": ("adapter=none",),
    "mlp_fast, every 6th layer": ("adapter=mlp_fast", "adapter.layers='every=6'", "adapter.chunk=64"),
    "mlp_fast, every layer": ("adapter=mlp_fast", "adapter.chunk=64"),
}
# Only the sizes of the stream matter: the benchmark draws its published tokens.
DATA = (
    "task=split-sequence",
    "source=recall",
    "task.num_tasks=2",
    "task.batch_size=1",
    "task.eval_sequences=1",
    "eval.diagnostics=false",
)


def measure_pretrained(model: str, *, half: bool, rounds: int) -> Iterator[Row]:
    """Yield a row for each side: seconds of CPU time, and their ratio to transformers alone.

    `model`: a name as in model.name; `half`: compute in bf16.
    """
    learners = {side: _learner(model, typed) for side, typed in SIDES.items()}
    published = _model(learners["none"]).lm
    vocab = published.config.vocab_size
    tokens_BT = torch.randint(vocab, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=half)

    def plain(learn: bool) -> Callable[[], None]:
        def call() -> None:
            with torch.set_grad_enabled(learn), autocast():
                logits_BTV = published(input_ids=tokens_BT, use_cache=False).logits
            _step(logits_BTV, tokens_BT, published, learn=learn)

        return call

    for what, calls in {
        "prefill": {side: _reading(learner, tokens_BT, autocast) for side, learner in learners.items()},
        "training step": {side: _training(learner, tokens_BT, autocast) for side, learner in learners.items()},
        "decoding": {side: _decoding(learner, tokens_BT, autocast) for side, learner in learners.items()},
    }.items():
        is_decoding = what == "decoding"
        floor = _plain_decoding(published, tokens_BT, autocast) if is_decoding else plain(what == "training step")
        seconds = paired({"transformers": floor, **calls}, rounds=rounds)
        for side, times in seconds.items():
            over = ratio(times, seconds["transformers"])
            tokens = DECODED if is_decoding else BATCH * LENGTH
            yield {
                "what": what,
                "side": side,
                "tokens/s": tokens / median(times),
                "over transformers": over.median,
                "least": over.low,
                "most": over.high,
            }


def _learner(model: str, typed: tuple[str, ...]) -> Learner:
    threads = f"trainer.threads={torch.get_num_threads()}"
    words = (*DATA, f"task.seq_len={LENGTH}", "model=hf", f"model.name={model}", *typed, threads)
    return assembly_of(*words).learner.eval()


def _model(learner: Learner) -> HfModel:
    assert isinstance(learner.model, HfModel)
    return learner.model


def _rows(tokens_BT: torch.Tensor) -> Batch:
    return Batch(tokens_BT, tokens_BT.roll(-1, 1), torch.zeros_like(tokens_BT))


def _step(logits_BTV: torch.Tensor, tokens_BT: torch.Tensor, model: torch.nn.Module, *, learn: bool) -> None:
    """Take the gradient of the loss, as a training step does, and drop it."""
    if learn:
        F.cross_entropy(logits_BTV.float().flatten(0, 1), tokens_BT.roll(-1, 1).flatten()).backward()
        model.zero_grad()


def _reading(learner: Learner, tokens_BT: torch.Tensor, autocast: Callable[[], torch.autocast]) -> Callable[[], None]:
    state = learner.adapter.initial()

    @torch.no_grad()
    def call() -> None:
        with autocast():
            learner(_rows(tokens_BT), state)

    return call


def _training(learner: Learner, tokens_BT: torch.Tensor, autocast: Callable[[], torch.autocast]) -> Callable[[], None]:
    state = learner.adapter.initial()

    def call() -> None:
        with autocast():
            logits_BTV, _ = learner(_rows(tokens_BT), state)
        _step(logits_BTV, tokens_BT, learner, learn=True)

    return call


def _decoding(learner: Learner, tokens_BT: torch.Tensor, autocast: Callable[[], torch.autocast]) -> Callable[[], None]:
    """Return a call that reads tokens one by one behind a prefix, which was read at once."""
    reader = Reader(learner)
    with autocast():
        reader.read(tokens_BT)

    def call() -> None:
        with autocast():
            for t in range(DECODED):
                reader.read(tokens_BT[:, t : t + 1])

    return call


def _plain_decoding(
    published: torch.nn.Module, tokens_BT: torch.Tensor, autocast: Callable[[], torch.autocast]
) -> Callable[[], None]:
    from transformers import DynamicCache

    # The cache goes on growing from call to call, as that of a reader does.
    growing = {cache_argument(published): DynamicCache(), "use_cache": True}
    with torch.no_grad(), autocast():
        published(input_ids=tokens_BT, **growing)

    @torch.no_grad()
    def call() -> None:
        with autocast():
            for t in range(DECODED):
                published(input_ids=tokens_BT[:, t : t + 1], **growing)

    return call
