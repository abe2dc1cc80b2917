"""What every adapter must keep: no leak, lifetimes, documents apart, one row of a batch like another."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from ttt.config.build import build
from ttt.learner import Learner, Reader, slow_hash
from ttt.models.nano import Nano
from ttt.optimizers.adamw import AdamW
from ttt.stream import Batch
from ttt.training.recipe import Recipe
from ttt.training.train import loss_of

VOCAB, LENGTH = 11, 24


# What the YAML says, made smaller: a chunk of 4 tokens, two heads.
SMALLER = {
    "chunk": 4,
    "heads": 2,
    "reset": "sequence",
    "decay": 0.9,
    "step": 0.5,
    "vectors": 3,
    "share": 1.0,
    "rank": 2,
}


def make(adapter: str = "mlp_fast", *, window: int | None = 5, **options: object) -> Learner:
    torch.manual_seed(0)
    model = Nano(
        name="nano", vocab_size=VOCAB, seq_len=LENGTH, layers=2, width=16, heads=2, mlp_width=24,
        window=window, rope_base=10000.0,
    )  # fmt: skip
    config = OmegaConf.load(Path(str(files("ttt.conf"))) / "adapter" / f"{adapter}.yaml")
    config = OmegaConf.merge({"task": {"seq_len": LENGTH}}, {"adapter": config}).adapter
    settings: Any = OmegaConf.to_container(config, resolve=True)
    settings |= {key: value for key, value in SMALLER.items() if key in settings} | options
    part = build(settings, group="adapter", given={}, trusted=[])
    optimizer = AdamW(name="adamw", lr=1e-3, beta1=0.9, beta2=0.95, weight_decay=0.0, clip=1.0)
    learner = Learner(model, adapter=part, optimizer=optimizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Bigger embeddings and outputs than at the start of training: fast weights then matter at once.
            if parameter.dim() > 1 and "memory" not in name:
                parameter.mul_(5)
            # A memory beside attention is silent at its start.
            if name.endswith("memory.out_proj.weight"):
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    return learner.double()


def batch_of(tokens_BT: Tensor, segment_BT: Tensor | None = None) -> Batch:
    segment_BT = torch.zeros_like(tokens_BT) if segment_BT is None else segment_BT
    return Batch(tokens_BT, tokens_BT.roll(-1, 1), segment_BT)


def tokens(seed: int, rows: int = 3, length: int = LENGTH) -> Tensor:
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


VARIANTS = [
    ("none", {}),
    ("mlp_fast", {}),
    ("mlp_fast", {"centre": True}),
    ("mlp_fast", {"keys": "raw", "decay": 1.0, "chunk": 5}),
    ("mlp_fast", {"reset": "task", "chunk": 2}),
    ("mlp_fast", {"rule": "delta", "step": 0.1, "clip": 0.1}),
    ("mlp_fast", {"rule": "nlms", "keys": "raw", "momentum": 0.5}),
    ("mlp_fast", {"source": "hidden", "layers": [1], "clip": 0.05, "reset": "task"}),
    ("delta_fast", {}),
    ("delta_fast", {"gated": False, "taps": 1}),
    ("ttt_linear", {}),
    ("ttt_linear", {"reset": "task", "chunk": 5}),
    ("ttt_mlp", {}),
    ("lact_fast", {}),
    ("lact_fast", {"muon": False, "reset": "task"}),
    ("titans_fast", {}),
    ("titans_fast", {"reset": "task", "chunk": 5}),
    ("lora_fast", {}),
    ("lora_fast", {"second_order": True, "clip": 0.1}),
    ("sgd_fast", {}),
    ("sgd_fast", {"reset": "task", "second_order": True, "share": 0.5}),
    ("prompt_fast", {}),
    ("prompt_fast", {"reset": "task"}),
]
FAST = [variant for variant in VARIANTS if variant[0] != "none"]


@pytest.mark.parametrize(("adapter", "options"), VARIANTS)
@pytest.mark.parametrize("changed", [0, 3, 4, 11, LENGTH - 1])
def test_no_leak(adapter, options, changed):
    """Changing token t leaves the scores of all earlier positions equal, bit for bit."""
    learner = make(adapter, **options)
    original = tokens(1)
    other = original.clone()
    other[:, changed] = (other[:, changed] + 1) % VOCAB
    logits = [learner(batch_of(x), learner.adapter.initial())[0] for x in (original, other)]
    assert torch.equal(logits[0][:, :changed], logits[1][:, :changed])
    assert not torch.equal(logits[0][:, changed:], logits[1][:, changed:])


# Two documents behind each other, as pieces of many sizes cut them: at, before and behind the edges of chunks.
PIECES = [[24], [1] * 24, [3, 5, 1, 1, 6, 8], [4, 4, 16], [20, 1, 1, 1, 1], [11, 13]]
TWO_DOCUMENTS = torch.tensor([[0] * 10 + [1] * 14] * 3)


def read_whole(learner: Learner, tokens_BT: Tensor, segment_BT: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return learner(batch_of(tokens_BT, segment_BT), learner.adapter.initial())[0]


@pytest.mark.parametrize(("adapter", "options"), VARIANTS)
@pytest.mark.parametrize("documents", [1, 2])
def test_reading_in_pieces_is_reading_at_once(adapter, options, documents):
    """Prefill and decoding, by token and by piece, with the state handed from reader to reader in between."""
    learner, x = make(adapter, **options), tokens(1)
    segment_BT = TWO_DOCUMENTS if documents == 2 else torch.zeros_like(x)
    whole = read_whole(learner, x, segment_BT)
    for pieces in PIECES:
        reader, read, at = Reader(learner), [], 0
        for n in pieces:
            read.append(reader.read(x[:, at : at + n], segment_BT=segment_BT[:, at : at + n]))
            exported, reader, at = reader.export(), Reader(learner), at + n
            reader.restore(exported)
        # The states are fp32, so agreement is to fp32.
        torch.testing.assert_close(torch.cat(read, 1), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("adapter", "options"), VARIANTS)
def test_lanes_may_wait(adapter, options):
    """Lanes that read different numbers of tokens at a time, with padding in between, are lanes alone."""
    learner, x = make(adapter, **options), tokens(1)
    whole = read_whole(learner, x)
    at, reader = torch.zeros(3, dtype=torch.long), Reader(learner)
    for counts in ([3, 0, 5], [1, 4, 0], [0, 6, 6], [7, 1, 2]):
        width = max(counts)
        piece, segment = torch.zeros(3, width, dtype=torch.long), torch.full((3, width), -1)
        for lane, n in enumerate(counts):
            piece[lane, :n], segment[lane, :n] = x[lane, at[lane] : at[lane] + n], 0
        read = reader.read(piece, segment_BT=segment)
        for lane, n in enumerate(counts):
            expected = whole[lane, at[lane] : at[lane] + n]
            torch.testing.assert_close(read[lane, :n], expected, rtol=1e-4, atol=1e-4)
            at[lane] += n


@pytest.mark.parametrize(("adapter", "options"), VARIANTS)
@pytest.mark.parametrize(("left", "right"), [(3, 0), (0, 2), (5, 4)])
def test_padding_changes_nothing(adapter, options, left, right):
    learner, x = make(adapter, **options), tokens(1)
    whole, after = learner(batch_of(x), learner.adapter.initial())
    inside = slice(left, left + LENGTH)
    padded = torch.zeros(3, left + LENGTH + right, dtype=torch.long)
    segment = torch.full_like(padded, -1)
    padded[:, inside], segment[:, inside] = x, 7
    read, last = learner(batch_of(padded, segment), learner.adapter.initial())
    torch.testing.assert_close(read[:, inside], whole, rtol=1e-4, atol=1e-5)
    for name, expected in after.items():
        torch.testing.assert_close(last[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("adapter", "options"), FAST)
def test_states_stay_fp32_under_autocast(adapter, options):
    learner = make(adapter, **options).float()
    with torch.autocast("cpu", torch.bfloat16):
        logits, after = learner(batch_of(tokens(1)), learner.adapter.initial())
    assert logits.isfinite().all()
    assert {x.dtype for x in after.values()} == {torch.float32}


@pytest.mark.parametrize(("adapter", "options"), FAST)
def test_an_evaluation_leaves_slow_weights_and_states_alone(adapter, options):
    """By hash; and the state that a sequence began from is bit for bit what it was."""
    learner = make(adapter, **options)
    state = {name: x.clone() for name, x in learner.adapter.initial().items()}
    before = slow_hash(learner.model)
    learner.eval()
    with torch.no_grad():
        logits, after = learner(batch_of(tokens(1)), state)
    assert slow_hash(learner.model) == before
    assert not any(x.any() for x in state.values())
    assert any(x.any() for x in after.values())
    assert not any(x.requires_grad for x in [logits, *after.values()])
    assert all(parameter.grad is None for parameter in learner.model.parameters())


def test_writes_reach_beyond_attention():
    """The control of the leak test: a token does change scores of later chunks, outside the window."""
    learner = make(window=1)
    original = tokens(1)
    other = original.clone()
    other[:, 1] = (other[:, 1] + 1) % VOCAB
    change = [learner(batch_of(x), learner.adapter.initial())[0] for x in (original, other)]
    difference_T = (change[0] - change[1]).abs().amax((0, 2))
    assert difference_T[2:4].max() == 0
    assert difference_T[4:].min() > 1e-6


@pytest.mark.parametrize(("adapter", "options"), [v for v in VARIANTS if v[1].get("reset") != "task"])
def test_packed_documents_equal_separate_ones(adapter, options):
    learner = make(adapter, **options)
    a, b = tokens(2, rows=1, length=10), tokens(3, rows=1, length=14)
    segment_BT = torch.tensor([[0] * 10 + [1] * 14])
    packed, _ = learner(batch_of(torch.cat([a, b], 1), segment_BT), learner.adapter.initial())
    for part, document in ((packed[:, :10], a), (packed[:, 10:], b)):
        alone, _ = learner(batch_of(document), learner.adapter.initial())
        torch.testing.assert_close(part, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("adapter", "options"), FAST)
def test_rows_of_a_batch_do_not_touch(adapter, options):
    learner = make(adapter, **options)
    both, _ = learner(batch_of(tokens(4, rows=2)), learner.adapter.initial())
    for row in range(2):
        alone, _ = learner(batch_of(tokens(4, rows=2)[row : row + 1]), learner.adapter.initial())
        torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("adapter", "options"), FAST)
def test_writes_off_reads_the_state_and_keeps_it(adapter, options):
    learner = make(adapter, **options)
    off, state = learner(batch_of(tokens(5)), learner.adapter.initial(), write=False)
    assert all(not x.any() for x in state.values())
    on, after = learner(batch_of(tokens(5)), learner.adapter.initial())
    assert not torch.equal(on, off)
    again, kept = learner(batch_of(tokens(6)), after, write=False)
    assert not torch.equal(again, learner(batch_of(tokens(6)), learner.adapter.initial(), write=False)[0])
    assert all(torch.equal(kept[name], x) for name, x in after.items())


@pytest.mark.parametrize("adapter", ["mlp_fast", "lora_fast", "sgd_fast"])
def test_writes_off_is_the_plain_model(adapter):
    """Bit for bit, where fast weights change layers of the model's own."""
    fast, plain = make(adapter), make("none")
    plain.model.load_state_dict(fast.model.state_dict(), strict=False)
    off, _ = fast(batch_of(tokens(5)), fast.adapter.initial(), write=False)
    assert torch.equal(off, plain(batch_of(tokens(5)), {})[0])


@pytest.mark.parametrize("adapter", ["delta_fast", "titans_fast", "ttt_linear", "ttt_mlp", "lact_fast"])
def test_a_new_memory_is_silent(adapter):
    """At its start, a model with a memory beside attention equals its base."""
    fast, plain = make(adapter), make("none")
    for name, parameter in fast.model.named_parameters():
        if name.endswith("memory.out_proj.weight"):
            torch.nn.init.zeros_(parameter)
    plain.model.load_state_dict(fast.model.state_dict(), strict=False)
    assert torch.equal(fast(batch_of(tokens(5)), fast.adapter.initial())[0], plain(batch_of(tokens(5)), {})[0])


@pytest.mark.parametrize("adapter", ["mlp_fast"])
def test_a_run_may_only_write_in_training(adapter):
    learner = make(adapter, test_writes=False).eval()
    off, state = learner(batch_of(tokens(5)), learner.adapter.initial(), write=True)
    assert all(not x.any() for x in state.values())
    assert torch.equal(off, learner(batch_of(tokens(5)), learner.adapter.initial(), write=False)[0])
    assert not torch.equal(off, learner.train()(batch_of(tokens(5)), learner.adapter.initial())[0])


@given(cut=st.integers(1, 5), seed=st.integers(0, 100), centre=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_carried_state_continues_the_sequence(cut, seed, centre):
    """With attention off, two calls of whole chunks equal one call: the state is all there is."""
    learner = make(window=1, reset="never", carry="lane", centre=centre)
    x, at = tokens(seed), 4 * cut
    whole, last = learner(batch_of(x), learner.adapter.initial())
    first, state = learner(batch_of(x[:, :at]), learner.adapter.initial())
    second, end = learner(batch_of(x[:, at:]), learner.adapter.carry(state))
    # The state is fp32, so agreement is to fp32.
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    for name in last:
        torch.testing.assert_close(end[name], last[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("adapter", sorted({adapter for adapter, _ in FAST}))
@pytest.mark.parametrize(("reset", "in_task", "next_task"), [("sequence", 0, 0), ("task", 1, 0), ("never", 1, 1)])
def test_lifetimes(adapter, reset, in_task, next_task):
    learner = make(adapter, reset=reset)

    def written() -> int:
        return int(any(x.any() for x in learner.fast.values()))

    assert written() == 0
    loss_of(learner, Recipe(), batch_of(tokens(6)), step=0)
    assert written() == in_task
    assert all(len(x) == 1 and not x.requires_grad for x in learner.fast.values())
    learner.begin_task()
    assert written() == next_task


@pytest.mark.parametrize(("carry", "lanes"), [("mean", 1), ("lane", 3)])
def test_carry_keeps_the_mean_or_every_lane(carry, lanes):
    learner = make(reset="task", carry=carry)
    _, after = learner(batch_of(tokens(7)), learner.adapter.initial())
    carried = learner.adapter.carry(after)
    for name, x in carried.items():
        expected = after[name] if carry == "lane" else after[name].mean(0, keepdim=True)
        assert x.shape[0] == lanes
        assert not x.requires_grad
        assert torch.equal(x, expected)


def test_one_layer_against_a_loop_by_hand():
    """Keys, targets, step, decay and conv of one layer, written out from the equations."""
    learner = make(decay=0.7)
    layer = learner.model.layers[0].mlp.down_proj
    with torch.no_grad():
        layer.conv_OD.copy_(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
        layer.target_DD.copy_(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))
    x_T = tokens(8, rows=1, length=10)
    z_TF = torch.randn(10, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    class OneLayer(torch.nn.Module):
        def forward(self, tokens_BT, *, segment_BT, cache):
            return layer(z_TF[None])

    got_BTD, _ = learner.adapter.read(OneLayer(), batch_of(x_T), learner.adapter.initial(), write=True)
    got_TD = got_BTD[0]
    e_TD = learner.model.embed_tokens(x_T[0])
    e_TD = e_TD / (e_TD.square().mean(-1, keepdim=True) + torch.finfo(e_TD.dtype).eps).sqrt()
    state_DF = torch.zeros(16, 24, dtype=torch.float64)
    for start in (0, 4, 8):
        state_DF = 0.7 * state_DF
        chunk = range(start, min(start + 4, 10))
        for t in chunk:
            torch.testing.assert_close(got_TD[t], layer.weight @ z_TF[t] + state_DF @ z_TF[t], rtol=1e-5, atol=1e-6)
        if len(chunk) < 4:
            continue
        for t in chunk:
            near = [(o, t + o - 2) for o in range(5) if t + o - 2 in chunk]
            v_D = sum(layer.conv_OD[o] * e_TD[s] for o, s in near) @ layer.target_DD
            state_DF = state_DF + layer.log_step.exp() * torch.outer(v_D, z_TF[t] / z_TF[t].norm())


@pytest.mark.parametrize(("adapter", "options"), FAST)
def test_all_adapter_parameters_get_a_gradient(adapter, options):
    learner = make(adapter, **options)
    loss_of(learner, Recipe(), batch_of(tokens(9)), step=0).backward()
    # Layers without fast weights in this variant have none of their own.
    for name, parameter in learner.model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
