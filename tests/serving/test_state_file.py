"""State files: whole or refused, and only for the reader that wrote them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_on import learner_of, owner_of, readers_of, text_of
from safetensors.torch import save_file

from ttt.serving.state_file import Saved, read_state, write_state

OWNER = owner_of(decay=0.9)
TENSORS = {"writing.fast.a": torch.arange(6.0).view(1, 2, 3), "plain.attention.position": torch.tensor([[3, 4]])}


@pytest.fixture
def path(tmp_path):
    write_state(tmp_path / "a.state", Saved(TENSORS, {"block": 8}, {"last": 3}), owner=OWNER)
    return tmp_path / "a.state"


def test_a_state_comes_back(path):
    saved = read_state(path, owner=OWNER)
    assert saved.settings == {"block": 8}
    assert saved.session == {"last": 3}
    assert saved.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(x, saved.tensors[name]) for name, x in TENSORS.items())
    assert [file.name for file in path.parent.iterdir()] == ["a.state"]


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_changed_bit_is_noticed(tmp_path_factory, at, bit):
    path = tmp_path_factory.mktemp("state") / "a.state"
    write_state(path, Saved(TENSORS, {"block": 8}, {"last": 3}), owner=OWNER)
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.state: "):
        read_state(path, owner=OWNER)


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_half_a_file_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"a\.state: no state of a reader"):
        read_state(path, owner=OWNER)


def test_other_tensors_are_no_state(tmp_path):
    save_file(TENSORS, tmp_path / "a.state")
    with pytest.raises(ValueError, match="no manifest"):
        read_state(tmp_path / "a.state", owner=OWNER)


@pytest.mark.parametrize(
    ("change", "both"),
    [
        ({"adapter": "delta_fast"}, ["adapter=mlp_fast", "adapter=delta_fast"]),
        ({"model": "smollm2"}, ["model=nano", "model=smollm2"]),
        ({"weights": "v" * 64}, ["wwww", "vvvv"]),
        ({"adapter_settings": {"name": "mlp_fast", "decay": 0.5}}, ["adapter.decay=0.9", "adapter.decay=0.5"]),
    ],
)
def test_the_state_of_another_reader_is_refused_with_both_names(path, change, both):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        read_state(path, owner=replace(OWNER, run="runs/b", **change))
    assert all(word in str(refusal.value) for word in ["runs/a", "runs/b", *both])
    assert "\n" not in str(refusal.value)


def test_other_settings_are_refused(tmp_path):
    readers = readers_of(tmp_path)
    readers.feed("a", text_of(0))
    readers.write_file(tmp_path / "a.state", "a", {})
    with pytest.raises(ValueError, match="block=8, not block=16"):
        readers_of(tmp_path, block=16).read_file(tmp_path / "a.state", "a", append=False)


def test_a_state_in_another_form_is_refused(tmp_path):
    """The same names and hashes, but an adapter that has other tensors."""
    readers = readers_of(tmp_path, learner=learner_of("delta_fast"))
    readers.feed("a", text_of(0))
    readers.write_file(tmp_path / "a.state", "a", {})
    with pytest.raises(ValueError, match="made by other code"):
        readers_of(tmp_path).read_file(tmp_path / "a.state", "a", append=False)


def test_a_damaged_index_is_refused(tmp_path):
    readers = readers_of(tmp_path / "s")
    readers.feed("a", text_of(0))
    readers.save({})
    (tmp_path / "s" / "sessions.json").write_text("{")
    with pytest.raises(ValueError, match=r"sessions\.json: damaged"):
        readers_of(tmp_path / "s").load(append=False)
