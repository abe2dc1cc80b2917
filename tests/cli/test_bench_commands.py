"""ttt-bench startup and ttt-bench all: commands timed at their smallest, on two trees of code."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile

import pytest

from ttt.cli import bench
from ttt.cli.benches import against, jobs, startup, trees
from ttt.cli.benches.against import is_slower, ratio_of
from ttt.cli.benches.typed import Job, Side, seconds_of_children
from ttt.cli.runs.check import check_command
from ttt.cli.runs.parser import parse_command
from ttt.cli.sweeps.study import expand

# A command that takes no time, on any code.
HELLO = Job("startup", "hello", ["-c", "import ttt; print(ttt.__file__)"], floor="pass")
FAILS = Job("startup", "fails", ["-c", "raise SystemExit('no such thing')"], floor="pass")


@pytest.fixture
def ttt_bench(monkeypatch, capsys, tmp_path):
    """Type a command in this process; return its exit code, what it printed and what it left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def typed(*words, listed=(HELLO,)):
        for module in (startup, against):
            monkeypatch.setattr(module, "jobs", lambda: list(listed))
        monkeypatch.setattr(sys, "argv", ["ttt-bench", *words])
        code = 0
        try:
            bench.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err, list(tmp_path.iterdir())

    return typed


@pytest.fixture
def history(tmp_path_factory, monkeypatch):
    """A checkout with one commit, whose code says where it is."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("ttt", *trees.BESIDE):
        (root / name).mkdir()
        (root / name / "__init__.py").write_text(f"NAME = {name!r}\n")
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(trees.ttt, "__file__", str(root / "ttt" / "__init__.py"))
    return root


def test_startup_shows_ours_the_floor_and_the_ratio(ttt_bench):
    code, out, err, left = ttt_bench("startup", "--rounds", "1")
    assert (code, err, left) == (0, "", [])
    for word in ("hello", "floor", "over floor"):
        assert word in out


@pytest.mark.parametrize("name", ["run to its end", "run again", "2 runs"])
def test_the_commands_that_are_timed_run(name, monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "RATES", 2)
    monkeypatch.setattr(jobs, "SEEDS", 1)
    (job,) = [job for job in jobs.jobs() if job.name == name]
    side = Side(tmp_path)
    side.prepare(job)
    before = seconds_of_children()
    side.time(job)()
    assert seconds_of_children() > before
    if job.floor:
        Side(side.place(job)).run(["-c", job.floor])


@pytest.mark.parametrize("job", jobs.jobs(), ids=lambda job: f"{job.bench}-{job.name}")
def test_what_is_typed_fits_together(job):
    words = list(job.words[2:])
    if job.words[1] == "ttt.cli.run":
        assert check_command(expand(parse_command(words))[0]).logger.name == "none"
    compile(job.floor, job.name, "exec")


def test_a_commit_is_laid_out_as_it_installs_and_removed_in_the_end(ttt_bench, history, tmp_path):
    (history / "ttt" / "__init__.py").write_text("NAME = 'changed'\n")
    code = trees.code_of(trees.commit_of("HEAD"), tmp_path / "code")
    for folder, name in ((history, "changed"), (code, "ttt")):
        tree = trees.tree_of(folder, tmp_path / name)
        say = "import ttt, ttt.cli, ttt.conf; print(ttt.NAME, ttt.cli.NAME)"
        done = subprocess.run(
            [sys.executable, "-P", "-c", say], env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [name, "cli"]


def test_this_checkout_beside_a_commit(ttt_bench, history):
    code, out, err, left = ttt_bench("all", "--against", "HEAD", "--rounds", "2", listed=[HELLO, FAILS])
    # Two rounds resolve nothing unless both agree: only what is printed is looked at.
    assert code in (0, 1), err
    assert left == []
    assert "new over old" in out
    assert "startup fails" in out
    assert "no such thing" in out


def test_ctrl_c_leaves_nothing_behind(ttt_bench, history, monkeypatch):
    def stopped(job, sides, *, rounds):
        assert (sides["old"].tree / "ttt" / "__init__.py").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(against, "_measured", stopped)
    code, _, _, left = ttt_bench("all", "--against", "HEAD")
    assert (code, left) == (130, [])


def test_a_slowdown_is_named(ttt_bench, history, monkeypatch):
    row = {"bench": "startup", "command": "hello", "new over old": 1.2, "low": 1.1, "high": 1.3}
    monkeypatch.setattr(against, "_measured", lambda job, sides, *, rounds: row)
    code, _, err, _ = ttt_bench("all", "--against", "HEAD")
    assert code == 1
    assert "slower: startup, hello: 1.200" in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["all"], "--against COMMIT"),
        (["startup", "--against", "HEAD"], "--against COMMIT"),
        (["all", "--against", "nosuch"], "--against nosuch"),
        (["all", "--against", "--help-me"], "--against"),
        (["all", "--against", "HEAD", "--rows", "startups"], "did you mean startup?"),
    ],
)
def test_wrong_words_are_one_line(ttt_bench, history, words, named):
    code, out, err, left = ttt_bench(*words)
    assert (code, out, left) == (2, "", [])
    assert named in err
    assert len(err.splitlines()) == 1


def test_an_interval_decides_what_is_slower():
    over = ratio_of([2.0, 2.2, 2.1], [1.0, 1.1, 1.0])
    assert math.exp(over.low) < 2.03 < math.exp(over.high)
    assert not is_slower({"new over old": 1.04, "low": 1.03})
    assert not is_slower({"new over old": 1.3, "low": 0.9})
    assert not is_slower({"new over old": 1.3, "low": float("nan")})
    assert not is_slower({"why not": "no such command"})
    assert is_slower({"new over old": 1.06, "low": 1.01})
