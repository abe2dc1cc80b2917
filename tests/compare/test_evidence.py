"""What tables may claim: no star without spread or for the machine, and no difference that is none."""

from __future__ import annotations

import json

import pytest
import yaml
from comparisons import cells, compare, refusal, write_run
from fake_runs import make_run

METRIC = "fast/loss/avg_final"
BASELINE = ("--baseline", "adapter.name=none")


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Two adapters and two seeds: seeds differ in how hard they are, and not in the difference."""
    folder = tmp_path_factory.mktemp("flat")
    for seed in range(2):
        for adapter, value in (("none", 5.0), ("mlp_fast", 4.4)):
            write_run(folder, seed=seed, lr=0.1, value=value + seed, adapter=adapter)
    return folder


def test_equal_differences_are_no_evidence(flat):
    (difference,) = (cell for cell in cells(flat, *BASELINE, "--metrics", METRIC) if cell["difference"])
    assert (difference["mean"], difference["sd"]) == pytest.approx((-0.6, 0.0))
    assert not difference["resolved"]
    # A ratio has the jackknife's interval, which has no width either.
    assert not any(cell["resolved"] for cell in cells(flat, *BASELINE))
    shown = compare(flat, *BASELINE, "--metrics", METRIC).out
    assert "*" not in shown
    assert "1 cell has no star or bold" in shown


def test_a_best_by_equal_differences_is_not_bold(flat):
    assert not any(cell["ahead"] for cell in cells(flat, "--metrics", METRIC))
    assert "1 cell has no star or bold" in compare(flat, "--metrics", METRIC).out
    assert "**" not in compare(flat, "--metrics", METRIC, "--format", "markdown").out


def test_a_star_that_is_due_stays(flat, tmp_path):
    for seed in range(3):
        for adapter, value in (("none", 5.0), ("mlp_fast", 4.4 + 0.001 * seed)):
            write_run(tmp_path, seed=seed, lr=0.1, value=value, adapter=adapter)
    shown = compare(tmp_path, *BASELINE, "--metrics", METRIC).out
    assert "-0.599 ±0.002*" in shown
    assert "no star" not in shown


def with_base_seed(run, seed):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["base"]["seed"] = seed
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("names", "base", "is_said"),
    [
        (["Greek", "Latin"], 0, True),
        # Seeds with a base each, other tasks for each, and tasks that a seed draws.
        (["Greek", "Latin"], None, False),
        (None, 0, False),
        (["permutation 1", "permutation 2"], 0, False),
    ],
)
def test_seeds_that_share_tasks_and_base_are_named(names, base, is_said, tmp_path):
    for adapter in ("none", "mlp_fast"):
        for seed in range(2):
            tasks = names or [f"Greek {seed}", f"Latin {seed}"]
            run = make_run(tmp_path, seed=seed, overrides=[f"adapter={adapter}"], tasks=2, names=tasks, journal=False)
            with_base_seed(run, seed if base is None else base)
    for typed in ((), ("--interval", "bootstrap")):
        assert ("in their batches only" in compare(tmp_path, "--metrics", METRIC, *typed).out) == is_said


def test_what_the_machine_took_has_spread_but_no_star(tmp_path):
    for adapter in ("none", "mlp_fast"):
        for seed in range(3):
            run = make_run(tmp_path, seed=seed, overrides=[f"adapter={adapter}"], tasks=2, journal=False)
            status = json.loads((run / "status.json").read_text())
            seconds = 60.0 + seed + (40 + seed if adapter == "none" else 0)
            (run / "status.json").write_text(json.dumps(status | {"seconds": seconds, "rollouts": seconds}))
    typed = (tmp_path, *BASELINE, "--metrics", "cost/run/seconds", "cost/run/rollouts")
    cost, counted = ({cell["adapter.name"]: cell for cell in cells(*typed)[i::2]} for i in (0, 1))
    assert cost["mlp_fast"]["mean"] == pytest.approx(-41)
    assert cost["mlp_fast"]["high"] < 0
    assert cost["mlp_fast"]["sd"] == pytest.approx(1)
    assert (cost["mlp_fast"]["resolved"], cost["mlp_fast"]["ahead"], cost["mlp_fast"]["p"]) == (False, False, None)
    # How many answers a method samples is its own, whatever the machine.
    assert (counted["mlp_fast"]["resolved"], counted["mlp_fast"]["ahead"]) == (True, True)


def test_levels_stand_apart_from_differences(tmp_path):
    for adapter, lr in (("none", 0.1), ("mlp_fast", 0.1), ("mlp_fast", 0.2)):
        for seed in range(3):
            write_run(tmp_path, seed=seed, lr=lr, value=lr + 0.01 * seed, adapter=adapter)
    typed = (tmp_path, *BASELINE, "--metrics", METRIC, "--sort", METRIC)
    shows = [(cell["adapter.name"], cell["optimizer.lr"], cell["shows"], cell["difference"]) for cell in cells(*typed)]
    assert shows == [
        ("mlp_fast", "0.1", "difference", True),
        ("none", "0.1", "level of the baseline", False),
        ("mlp_fast", "0.2", "level, without a partner", False),
    ]
    assert "| mlp_fast | 0.2 | 3 | level, without a partner |" in compare(*typed, "--format", "markdown").out
    table = compare(*typed).out.splitlines()
    assert [line for line in table if line in {words for *_, words, _ in shows}] == [words for *_, words, _ in shows]
    assert compare(*typed, "--format", "latex").out.count(r"\midrule") == 3
    # Without differences nothing has to be told apart.
    assert "shows" not in cells(tmp_path, "--metrics", METRIC)[0]


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """Two streams: one has a baseline, the other has one method alone."""
    folder = tmp_path_factory.mktemp("streams")
    for adapter, words in (("mlp_fast", ["task.seq_len=64"]), ("mlp_fast", []), ("none", [])):
        overrides = [f"adapter={adapter}", *words]
        make_run(folder, overrides=overrides, tasks=2, stream=str(words), journal=False)
    return folder


def test_a_stream_without_the_baseline_says_what_it_has(streams):
    shown = compare(streams, *BASELINE, "--metrics", METRIC)
    assert shown.code == 0
    (line,) = shown.err.splitlines()
    assert "no run of this stream has adapter.name=none; it has mlp_fast" in line


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--baseline", "adapter.name=nonee"], ["adapter.name=nonee", "did you mean none?"]),
        (["--baseline", "adaptr.name=none"], ["'adaptr.name'", "did you mean adapter.name?"]),
        (["--baseline", "adapter.name"], ["--baseline adapter.name", "KEY=VALUE"]),
        (
            ["--baseline", "model.name=nano"],
            ["--baseline model.name=nano", "no run of this stream has another model.name"],
        ),
        (["--frontier"], ["--frontier optimizer.lr", "its only value in this stream is 0.0003"]),
        (["--frontier", "optimizer.l"], ["--frontier optimizer.l", "'optimizer.l'"]),
        (["--label", f"{METRIC}=a=b", "--metrics", METRIC], [f"{METRIC}=NAME"]),
    ],
)
def test_no_refusal_ends_in_an_empty_list(typed, words, streams):
    for where in ((), ("--where", "task.seq_len=64")):
        message = refusal(streams, *typed, *where)
        assert not message.rstrip().endswith(":")
    message = refusal(streams, *typed)
    assert all(word in message for word in words), message


def test_a_frontier_needs_numbers(study):
    message = refusal(study[0], "--frontier", "adapter.name")
    assert "its values are no numbers (mlp_fast, none)" in message
    assert message.rstrip().endswith("optimizer.lr")


def test_a_method_without_the_key_of_a_frontier_is_a_point(tmp_path):
    for words in (["adapter=none"], ["adapter.step=0.1"], ["adapter.step=0.2"]):
        make_run(tmp_path, overrides=words, tasks=2, journal=False)
    rates = {cell["adapter.name"]: cell["adapter.step"] for cell in cells(tmp_path, "--frontier", "adapter.step")}
    assert rates["mlp_fast"] == "0.1 0.2"


def test_what_was_written_is_said(study, tmp_path):
    table, plot = tmp_path / "table.tex", tmp_path / "frontier.svg"
    axes = ("--axes", METRIC, "slow/loss/avg_before")
    shown = compare(study[0], "--frontier", *axes, "--to", table, "--plot", plot)
    assert shown.out == ""
    assert shown.err.splitlines() == [f"wrote {table}, {plot}, {plot.with_suffix('.csv')}"]
    assert all(file.is_file() for file in (table, plot, plot.with_suffix(".csv")))
    assert compare(study[0], "--metrics", METRIC).err == ""
