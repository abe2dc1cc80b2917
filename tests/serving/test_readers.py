"""Texts that go on: sums equal one pass, lanes do not touch, and a break changes nothing."""

from __future__ import annotations

import pytest
import torch
from reading_on import learner_of, nats_at_once, readers_of, text_of
from tiny_adapters import WITHIN, name_of

from ttt.learner import Reader, Sampling
from ttt.serving.lanes import is_memory
from ttt.serving.upkeep import Upkeep

READ = [("none", {}), *WITHIN]
SHORT, LONG = text_of(0), text_of(1, 200)


class KilledError(Exception):
    pass


def bits_by_session(events):
    return {event.session: event.score.nats for event in events if event.kind == "end"}


def read_all(readers, *parts):
    for part in parts or (SHORT,):
        readers.feed("a", part)
    readers.finish()


@pytest.mark.parametrize("variant", READ, ids=name_of)
def test_the_sums_are_those_of_one_pass(tmp_path, variant):
    adapter, options = variant
    learner = learner_of(adapter, **options)
    for block in (7, 64):
        events = []
        readers = readers_of(tmp_path, adapter, learner=learner, block=block, events=events)
        read_all(readers, SHORT[:3], SHORT[3:30], SHORT[30:])
        score = events[-1].score
        assert (events[-1].kind, score.tokens, score.bytes) == ("end", len(SHORT) - 1, len(SHORT) - 1)
        assert score.nats == pytest.approx(nats_at_once(learner, SHORT), abs=1e-5)
        if learner.adapter.initial():
            assert score.plain == pytest.approx(nats_at_once(learner, SHORT, write=False), abs=1e-5)
        windows = [event.score.nats for event in events if event.kind == "window"]
        assert sum(windows) == pytest.approx(score.nats)


@pytest.mark.parametrize("variant", READ, ids=name_of)
def test_what_is_remembered_does_not_grow_with_the_text(tmp_path, variant):
    adapter, options = variant
    readers = readers_of(tmp_path, adapter, learner=learner_of(adapter, **options))
    sizes = []
    for i in range(3):
        readers.feed("a", text_of(i, 24))
        sizes.append(readers.in_memory)
    assert sizes[1] == sizes[2]


@pytest.mark.parametrize("adapter", ["none", "mlp_fast", "delta_fast"])
def test_many_texts_are_read_as_each_alone(tmp_path, adapter):
    texts = {name: text_of(i, 40 + 13 * i) for i, name in enumerate("abcde")}
    events = []
    # A budget of nothing: every idle session goes to the disk and comes back.
    readers = readers_of(tmp_path, adapter, lanes=2, budget=0, events=events)
    for start in range(0, 100, 5):
        for name, text in texts.items():
            if text[start : start + 5]:
                readers.feed(name, text[start : start + 5])
    assert readers.in_memory == 0
    assert list(tmp_path.glob("*.safetensors"))
    readers.finish()
    for name, nats in bits_by_session(events).items():
        assert nats == pytest.approx(nats_at_once(learner_of(adapter), texts[name]), abs=1e-5)


def test_sessions_on_the_disk_come_back_to_the_bit(tmp_path):
    texts = {name: text_of(i, 90) for i, name in enumerate("abcd")}
    states = []
    for budget in (10**9, 0):
        readers = readers_of(tmp_path / str(budget), lanes=2, budget=budget)
        for start in range(0, 90, 10):
            for name, text in texts.items():
                readers.feed(name, text[start : start + 10])
        readers.finish()
        states.append({name: readers._shelf.take(readers.sessions[name]).tensors() for name in texts})
    for name in texts:
        assert states[0][name].keys() == states[1][name].keys()
        assert all(torch.equal(x, states[1][name][key]) for key, x in states[0][name].items())


@pytest.mark.parametrize("adapter", ["none", "mlp_fast", "delta_fast", "titans_fast", "cache"])
def test_no_session_moves_a_score_of_another(tmp_path, adapter):
    """The causality probe between lanes: flip all bytes of one session."""
    scores = []
    for flipped in (text_of(3, 70), bytes(255 - x for x in text_of(3, 70))):
        texts, events = {"a": text_of(0, 70), "b": flipped, "c": text_of(2, 70)}, []
        readers = readers_of(tmp_path, adapter, lanes=3, window=1, events=events)
        for start in range(0, 70, 7):
            for name, text in texts.items():
                readers.feed(name, text[start : start + 7])
        readers.finish()
        scores.append({name: [e for e in events if e.session == name] for name in texts})
    assert scores[0]["b"] != scores[1]["b"]
    for name in "ac":
        assert scores[0][name] == scores[1][name]


def test_no_byte_moves_a_score_before_it(tmp_path):
    scores = []
    for last in (b"x", b"y"):
        events = []
        readers = readers_of(tmp_path, events=events, window=1)
        readers.feed("a", SHORT[:40] + last * 21)
        readers.finish()
        scores.append([event.score for event in events if event.kind == "window"])
    assert scores[0][:5] == scores[1][:5]
    assert scores[0][5] != scores[1][5]


@pytest.mark.parametrize("rounds", range(1, 9))
def test_one_text_goes_on_after_any_block(tmp_path, rounds):
    path, whole = tmp_path / "a.state", []
    read_all(readers_of(tmp_path, events=whole))
    before, after = [], []

    def save_then_die(readers):
        readers.write_file(path, "a", {"events": len(before)})
        if readers.sessions["a"].meter.read >= min(8 * rounds, len(SHORT)):
            raise KilledError

    dying = readers_of(tmp_path, events=before, after_round=save_then_die)
    with pytest.raises(KilledError):
        read_all(dying)
    again = readers_of(tmp_path, events=after)
    assert again.read_file(path, "a", append=False) == {"events": len(before)}
    read_all(again, SHORT[:11], SHORT[11:])
    events = before + after
    # The last round of all ends the text: typed again, it says so again.
    assert events[: len(whole)] == whole


@pytest.mark.parametrize("rounds", [2, 7])
def test_many_texts_go_on_after_any_round(tmp_path, rounds):
    texts = {name: text_of(i, 30 + 9 * i) for i, name in enumerate("abc")}

    def feed(readers):
        for start in range(0, 80, 4):
            for name, text in texts.items():
                if text[start : start + 4]:
                    readers.feed(name, text[start : start + 4])
        readers.finish()

    whole, before, after = [], [], []
    feed(readers_of(tmp_path / "whole", "delta_fast", lanes=2, events=whole, budget=9000))
    count = 0

    def save_then_die(readers):
        nonlocal count
        readers.save({})
        count += 1
        if count == rounds:
            raise KilledError

    folder = tmp_path / "state"
    dying = readers_of(folder, "delta_fast", lanes=2, events=before, after_round=save_then_die, budget=9000)
    assert dying.load(append=False) == {}
    with pytest.raises(KilledError):
        feed(dying)
    again = readers_of(folder, "delta_fast", lanes=2, events=after, budget=9000)
    again.load(append=False)
    feed(again)
    assert before + after == whole


def test_another_text_is_refused_and_new_text_is_read_behind(tmp_path):
    path = tmp_path / "a.state"
    readers = readers_of(tmp_path)
    read_all(readers)
    readers.write_file(path, "a", {})
    again = readers_of(tmp_path)
    again.read_file(path, "a", append=False)
    with pytest.raises(ValueError, match=r"a: not the text .* 61 bytes"):
        again.feed("a", LONG)
    again = readers_of(tmp_path)
    again.read_file(path, "a", append=False)
    again.feed("a", SHORT[:-1])
    with pytest.raises(ValueError, match="ends at byte 60"):
        again.finish()
    events = []
    again = readers_of(tmp_path, events=events)
    again.read_file(path, "a", append=True)
    read_all(again, LONG)
    assert events[-1].score.nats == pytest.approx(nats_at_once(learner_of(), SHORT + LONG), abs=1e-5)


@pytest.mark.parametrize("upkeep", [Upkeep(decay=0.5), Upkeep(max_norm=0.02), Upkeep(reset=16)])
def test_upkeep_is_a_plain_loop_over_blocks(tmp_path, upkeep):
    """The same by hand: read a block, then change the state."""
    events, learner = [], learner_of()
    read_all(readers_of(tmp_path, learner=learner, upkeep=upkeep, events=events, window=1))
    norms = [event.norm for event in events if event.kind == "window"]
    reader, expected, tokens = Reader(learner), [], list(SHORT)
    for i in range(0, len(tokens), 8):
        # A token is read with the block after its own.
        reader.read(torch.tensor([tokens[max(i - 1, 0) : i + 7][: len(tokens) - max(i, 1)]]))
        state = reader.export()
        names = [name for name in state if is_memory(name)]
        if upkeep.reset and min(i + 8, 61) // upkeep.reset > i // upkeep.reset:
            state |= {name: torch.zeros_like(state[name]) for name in names}
        for name in names:
            state[name] = upkeep.decay * state[name]
        norm = sum(float(state[name].square().sum()) for name in names) ** 0.5
        if upkeep.max_norm and norm > upkeep.max_norm:
            state |= {name: state[name] * upkeep.max_norm / norm for name in names}
            norm = upkeep.max_norm
        reader.restore(state)
        expected.append(norm)
    assert norms == pytest.approx(expected, rel=1e-6)
    assert max(norms) > 0


def test_it_learns_from_what_it_writes(tmp_path):
    """Writing on, and reading the same bytes, leave the same state."""
    speaking, listening = readers_of(tmp_path), readers_of(tmp_path)
    speaking.feed("a", SHORT[:16])
    listening.feed("a", SHORT[:16])
    written = speaking.generate("a", tokens=12, sampling=Sampling(temperature=1.0, seed=3))
    listening.feed("a", bytes(written))
    listening.finish()
    lanes = [x._shelf.take(x.sessions["a"]) for x in (speaking, listening)]
    assert speaking.sessions["a"].last == listening.sessions["a"].last == written[-1]
    for name, x in lanes[0].tensors().items():
        if "attention" not in name:
            torch.testing.assert_close(x, lanes[1].tensors()[name])


def test_an_unknown_session_is_refused_with_the_nearest(tmp_path):
    readers = readers_of(tmp_path)
    readers.feed("anna", SHORT)
    with pytest.raises(ValueError, match="'ana': unknown; did you mean anna"):
        readers.generate("ana", tokens=1, sampling=Sampling())


def test_attention_without_a_bound_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.window=null.*--context"):
        readers_of(tmp_path, learner=learner_of(window=None))
