"""The tab key: what it offers, through a real bash, and without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from ttt.cli.commands import COMMANDS
from ttt.cli.completion.answer import candidates
from ttt.cli.completion.parsers import parser_of
from ttt.cli.completion.shells import SCRIPTS, script
from ttt.cli.runs.help import Library
from ttt.config.messages import UsageError

OFFERED = [
    ("ttt-run", "adap", ["adapter=", "adapter."]),
    ("ttt-run", "adapter=ttt_", ["adapter=ttt_linear", "adapter=ttt_mlp", "adapter=ttt_ntp"]),
    ("ttt-run", "-m adapter=none,lact", ["adapter=none,lact_fast"]),
    ("ttt-run", "adapter=none adapter.", []),
    ("ttt-run", "adapter=ttt_linear adapter.res", ["adapter.reset="]),
    ("ttt-run", "strategy@also=replay also.b", ["also.balance="]),
    ("ttt-run", "experiment=fst-small adapter.proposa", ["adapter.proposals="]),
    ("ttt-run", "adapter.reset=", ["adapter.reset=sequence", "adapter.reset=task", "adapter.reset=never"]),
    ("ttt-run", "eval.savings=", ["eval.savings=true", "eval.savings=false"]),
    ("ttt-run", "eval.an", ["eval.anytime="]),
    ("ttt-run", "--study fst", ["fst", "fst-demo", "fst-small"]),
    ("ttt-run", "--compl", ["--completion"]),
    ("ttt-run", "cl", ["clean"]),
    ("ttt-run", "clean --y", ["--yes"]),
    ("ttt-run", "source.folder=", []),
    ("ttt-compare", "--where strategy=ew", ["strategy=ewc"]),
    ("ttt-compare", "outputs --metrics fa", ["fast/", "fast_gain/"]),
    ("ttt-compare", "--sort fast/loss/gained_s", ["fast/loss/gained_slope"]),
    ("ttt-compare", "--format la", ["latex"]),
    ("ttt-report", "RUN --out", ["--output"]),
    ("ttt-probe", "caus", ["causality"]),
    ("ttt-probe", "causality adapter=del", ["adapter=delta_fast"]),
    ("ttt-check", "optimizer=mu", ["optimizer=muon"]),
    ("ttt-bench", "ker", ["kernels"]),
    ("ttt-bench", "strategies --strategy naive,rep", ["naive,replay"]),
    ("ttt-export", "RUN --mer", ["--merge"]),
    ("ttt-nothing", "a", []),
]


@pytest.mark.parametrize(("command", "line", "offered"), OFFERED, ids=lambda x: x if isinstance(x, str) else "")
def test_what_is_offered(command, line, offered):
    assert candidates(command, line.split(" ")) == offered


def test_every_command_and_every_group_completes():
    for command in COMMANDS:
        # Each has options beyond --help.
        assert len(parser_of(command)._actions) > 2, command
        assert command in script("bash")
    library = Library([])
    for group in library.groups():
        assert candidates("ttt-run", [f"{group}="]) == [f"{group}={name}" for name in library.options(group)]


def test_parts_of_the_users_own(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/mine.yaml").write_text("# Mine.\n_target_: mine.Mine\nname: mine\n# How fast.\nspeed: 3\n")
    before = ["--config-dir", str(tmp_path), "adapter=mine"]
    assert candidates("ttt-run", [*before[:2], "adapter=mi"]) == ["adapter=mine"]
    assert candidates("ttt-run", [*before, "adapter.s"]) == ["adapter.speed="]
    assert candidates("ttt-run", [*before, "adapter.speed="]) == ["adapter.speed=3"]


def test_bash_puts_in_what_follows_its_last_break():
    line = "/some/where/ttt-run -m adapter=none,titans"
    lines = [
        script("bash"),
        # Only a completion that readline began may call it.
        "compopt() { :; }",
        f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDBREAKS=$' \\t\\n\"@><=;|&(:' _ttt_complete",
        'printf "%s\\n" "${COMPREPLY[@]}"',
        "complete -p ttt-compare",
    ]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "none,titans_fast"
    assert "-F _ttt_complete ttt-compare" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_parse(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    subprocess.run([shell, "-n"], input=script(shell), text=True, check=True)


def test_it_loads_no_torch():
    code = (
        "import sys; from ttt.cli.completion.answer import candidates\n"
        "for command in ('ttt-run', 'ttt-compare', 'ttt-probe'): candidates(command, ['--m'])\n"
        "candidates('ttt-run', ['adapter=mlp_fast', 'adapter.reset=']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_an_unknown_shell_is_refused():
    with pytest.raises(UsageError, match="did you mean bash"):
        script("bsh")
