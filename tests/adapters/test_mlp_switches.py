"""The switches of `mlp_fast`: starts that equal the base, times of writes, rules of evaluations."""

from __future__ import annotations

import pytest
import torch
from tiny_adapters import LENGTH, batch_of, build_adapter, make, name_of, read, tokens
from torch import nn

from ttt.adapters.layers import pick_layers
from ttt.config.identity import base_adapter
from ttt.learner import Learner, Reader
from ttt.models.nano import Nano
from ttt.training.recipe import Recipe
from ttt.training.train import loss_of

# Rules under which a new model equals its base.
SILENT = [
    ("mlp_fast", {"start": "conv_zero"}),
    ("mlp_fast", {"start": "conv_zero", "rule": "nlms", "clip": 0.1, "norm": "rows"}),
    ("in_place_official", {"layers": None}),
    ("mlp_fast", {"start": "step_zero", "target": "next", "source": "hidden_raw"}),
    ("mlp_fast", {"start": "step_zero", "rule": "delta_whole", "norm": "rows", "reset": "task"}),
    ("mlp_fast", {"start": "step_zero", "rule": "ridge", "write_at": "prompt", "clip": 0.1}),
    ("mlp_fast", {"start": "step_zero", "norm": "spectral", "learn_step": False}),
]


def plain(learner: Learner) -> Learner:
    """The base: the same slow weights without the adapter."""
    base = make("none")
    base.model.load_state_dict(learner.model.state_dict(), strict=False)
    return base.to(next(learner.model.parameters()).dtype)


def untrained(adapter: str, options: dict[str, object]) -> Learner:
    """A learner whose new parameters are what the adapter starts from."""
    learner, fresh = make(adapter, **options), nn.Module()
    fresh.model = Nano(
        name="nano", vocab_size=11, seq_len=LENGTH, layers=2, width=16, heads=2, mlp_width=24, window=5,
        rope_base=10000.0,
    )  # fmt: skip
    build_adapter(adapter, **options).attach(fresh.model)
    new = {name: x for name, x in fresh.model.state_dict().items() if name.endswith(("gain", "conv_OD", "target_DD"))}
    assert not learner.model.load_state_dict(new, strict=False).unexpected_keys
    return learner


@pytest.mark.parametrize("variant", SILENT, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_equals_its_base_until_it_learns(variant, dtype):
    """Bit for bit, at once and in pieces; after one step of the optimizer it writes something."""
    learner = untrained(*variant).to(dtype)
    base, x = plain(learner), tokens(3)
    with torch.no_grad():
        assert torch.equal(read(learner, x), read(base, x))
        readers = Reader(learner), Reader(base)
        for piece in x.split([5, 1, 1, LENGTH - 7], 1):
            assert torch.equal(readers[0].read(piece), readers[1].read(piece))
    optimizer = torch.optim.SGD([p for p in learner.model.parameters() if p.requires_grad], lr=1.0)
    loss_of(learner, Recipe(), batch_of(x), step=0).backward()
    optimizer.step()
    off, on = read(learner, x, write=False), read(learner, x)
    assert on.isfinite().all()
    assert not torch.equal(on, off)


def test_the_targets_next_and_same_are_one_token():
    """Frozen: a single tap, beyond the middle or in it; a projection need not be learned either."""
    for target, projection in (("next", True), ("next", False), ("same", True), ("conv", False)):
        layer = make(target=target, learn_projection=projection).model.layers[0].mlp.down_proj
        assert layer.conv_OD.requires_grad == (target == "conv")
        assert layer.target_DD.requires_grad == projection
    for target, taps in (("next", [0.0, 0, 1]), ("same", [0.0, 1, 0])):
        assert torch.equal(make(target=target).model.layers[0].mlp.down_proj.conv_OD[:, 0], torch.tensor(taps))


def test_a_random_diagonal_is_the_same_in_all_layers():
    layers = make("in_place_official", layers=None).model.layers
    first_DD, second_DD = (block.mlp.down_proj.target_DD / 5 for block in layers)
    assert torch.equal(first_DD, second_DD)
    assert torch.equal(first_DD, first_DD.diag().diag())
    assert 0.01 < first_DD.diag().std() < 0.03


@torch.no_grad()
@pytest.mark.parametrize("rule", ["hebb", "ridge"])
def test_a_prompt_is_written_once(rule):
    """Tokens of the prompt read the plain model; what follows reads a state that stays."""
    learner, x = make(write_at="prompt", prompt=6, rule=rule, window=1), tokens(4)
    on, off = read(learner, x), read(learner, x, write=False)
    assert torch.equal(on[:, :6], off[:, :6])
    assert (on[:, 6:] - off[:, 6:]).abs().amax((0, 2)).min() > 1e-6
    _, early = learner(batch_of(x[:, :6]), learner.adapter.initial())
    _, late = learner(batch_of(x), learner.adapter.initial())
    torch.testing.assert_close(late, early, rtol=1e-5, atol=1e-6)
    # Shorter documents write nothing.
    _, short = learner(batch_of(x[:, :5]), learner.adapter.initial())
    assert not any(memory.any() for memory in short.values())


@torch.no_grad()
def test_a_document_is_written_at_its_end_for_the_next_one():
    learner = make(write_at="document", reset="never", carry="lane")
    x = tokens(5)
    on, state = learner(batch_of(x), learner.adapter.initial())
    assert torch.equal(on, read(learner, x, write=False))
    again, _ = learner(batch_of(x), learner.adapter.carry(state))
    assert not torch.equal(again, on)


@torch.no_grad()
def test_evaluations_may_write_by_other_rules():
    """They read like a learner that trains by those rules, and training reads as if without them."""
    test = {"rule": "ridge", "write_at": "prompt", "clip": 0.2}
    both = make(**{f"test_{key}": value for key, value in test.items()}, test_step=0.3)
    x, other = tokens(6), make(**test, step=0.3)
    torch.testing.assert_close(read(both.eval(), x), read(other, x), rtol=1e-6, atol=1e-6)
    assert torch.equal(read(both.train(), x), read(make(), x))
    assert not torch.equal(read(both.eval(), x), read(both.train(), x))


def test_rules_of_evaluations_share_one_base():
    bases = [base_adapter({"name": "mlp_fast", "rule": "hebb", "test_rule": rule}) for rule in (None, "ridge", "delta")]
    assert bases[0] == bases[1] == bases[2]


@torch.no_grad()
def test_norms_of_rows_are_kept_where_a_state_is_only_read():
    """A state far larger than W0 does not enlarge what the layer puts out."""
    learner = make(norm="rows", reset="task", layers=[0])
    layer, z_BTF = learner.model.layers[0].mlp.down_proj, torch.randn(2, 3, 24).double()
    state = {"layers.0.mlp.memory": 1e4 * torch.randn(2, 16, 24)}
    outputs = []
    layer.register_forward_hook(lambda module, args, out: outputs.append((args[0], out)))
    for write in (True, False):
        learner(batch_of(tokens(7, rows=2)), state, write=write)
    for z_BTF, out_BTD in outputs:
        bound_BTD = z_BTF.norm(dim=-1, keepdim=True) * layer.weight.norm(dim=-1)
        assert (out_BTD.abs() <= bound_BTD * (1 + 1e-6)).all()
    assert not learner.adapter.additive()


@pytest.mark.parametrize(
    ("words", "indices"),
    [
        ("every=6", [0, 6, 12]),
        ("every=20", [0]),
        ("last=4", [9, 10, 11, 12]),
        ([0, 3], [0, 3]),
        (None, list(range(13))),
    ],
)
def test_layers_by_words(words, indices):
    assert pick_layers(range(13), words) == indices


@pytest.mark.parametrize("words", ["every=0", "last=0", "last=14", "first=2", "every", "every=-1", "all"])
def test_words_that_name_no_layers_are_refused(words):
    with pytest.raises(ValueError, match=rf"^adapter\.layers={words}: "):
        pick_layers(range(13), words)


@pytest.mark.parametrize("adapter", ["lora_fast", "sgd_fast"])
def test_descents_take_the_layers_that_one_names(adapter):
    state = make(adapter, layers="last=1").adapter.initial()
    assert {name.split(".")[1] for name in state} == {"1"}


REFUSED = [
    ({"start": "conv_zero", "target": "next"}, "start=conv_zero"),
    ({"start": "conv_zero", "target": "same"}, "start=conv_zero"),
    ({"start": "conv_zero", "rule": "delta_whole"}, "rule=delta_whole"),
    ({"start": "conv_zero", "rule": "ridge"}, "rule=ridge"),
    ({"start": "conv_zero", "norm": "spectral"}, "norm=spectral"),
    ({"norm": "spectral", "rule": "ridge"}, "rule=ridge"),
    ({"norm": "spectral", "test_rule": "ridge"}, "test_rule=ridge"),
    ({"write_at": "prompt", "prompt": LENGTH}, f"prompt={LENGTH}"),
    ({"test_write_at": "prompt", "prompt": LENGTH}, f"prompt={LENGTH}"),
    ({"chunk": 1, "target": "next"}, "chunk=1"),
    ({"test_rule": "ridge", "test_writes": False}, "test_rule=ridge"),
    ({"projection": "identity"}, "projection=identity"),
]


@pytest.mark.parametrize(("options", "named"), REFUSED, ids=str)
def test_switches_that_do_not_go_together_are_refused(options, named):
    with pytest.raises(ValueError, match=rf"^adapter\.{named}: "):
        build_adapter("mlp_fast", **options)


def test_a_chunk_that_nothing_uses_may_be_long():
    build_adapter("mlp_fast", chunk=LENGTH, write_at="prompt")
    build_adapter("mlp_fast", chunk=LENGTH, write_at="document", reset="task")
