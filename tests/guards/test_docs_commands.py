"""Every command line in the README and the docs is one that its command takes.

Nothing is run here but what only prints; `make docs-check` types all that takes no hours.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

import pytest
from documents import ROOT, blocks, command_lines, name_of, pages
from pages_as_typed import SKIPPED, typed_on, typed_pages

from ttt.cli.check import typed_options
from ttt.cli.checks.tiny import checked_groups
from ttt.cli.probes.arguments import probe_options
from ttt.cli.runs.check import check_command
from ttt.cli.runs.parser import parse_command
from ttt.cli.sweeps.study import expand
from ttt.config.messages import UsageError

# What a study lists has a test of its own; these say that an extra is not installed.
EXTRA = "not installed"


class ParsedError(Exception):
    """The words were parsed: what follows would run the command."""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder with the files that the pages name in titles: modules of the reader's own."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "mine" / "adapter").mkdir(parents=True)
    # The name that stands for any.
    (folder / "mine" / "adapter" / "mine.yaml").write_text("name: mine\n")
    # The folder that lies beside the docs, to be copied.
    (folder / "examples").symlink_to(ROOT / "examples")
    for page in pages():
        for block in blocks(page.read_text()):
            if block.title:
                (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.title).write_text(block.text)
    return folder


@pytest.fixture
def seen(request) -> set[tuple[str, ...]]:
    """Command lines that were checked before: pages repeat the usual ones."""
    return vars(request.module).setdefault("SEEN", set())


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_of_a_page_are_real(page, mine, seen, monkeypatch):
    monkeypatch.chdir(mine)
    for words in command_lines(page.read_text()):
        if tuple(words) not in seen:
            seen.add(tuple(words))
            check(words, monkeypatch)


def check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise an error that names the line unless its command would take it."""
    name, arguments = words[0].removeprefix("ttt-"), words[1:]
    try:
        if name == "run" and arguments[:1] not in (["clean"], ["sync"]):
            check_run(arguments)
        elif name == "probe":
            typed = probe_options(arguments, about="")
            places = [f"--config-dir={typed.config_dir}"] if typed.config_dir else []
            check_run(["-m", *places, *typed.overrides])
        elif name == "check":
            typed = typed_options(arguments)
            checked_groups(typed.words)
            check_run([*([f"--config-dir={typed.config_dir}"] if typed.config_dir else []), *typed.words])
        else:
            parse(name, arguments, monkeypatch)
    except (UsageError, ValueError, SystemExit) as error:
        if EXTRA not in str(error):
            raise AssertionError(f"{' '.join(words)}\n{error}") from error


def check_run(arguments: list[str]) -> None:
    typed = parse_command(arguments)
    if typed.help or typed.completion:
        return
    for sweep in expand(typed)[:1]:
        check_command(sweep)


def parse(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command parse its words, and stop it there."""
    parse_args = argparse.ArgumentParser.parse_args

    def stopped(parser, words=None, namespace=None):
        parse_args(parser, words, namespace)
        raise ParsedError

    with monkeypatch.context() as patched:
        patched.setattr("sys.argv", [f"ttt-{name}", *arguments])
        patched.setattr(argparse.ArgumentParser, "parse_args", stopped)
        with pytest.raises(ParsedError):
            importlib.import_module(f"ttt.cli.{name}").main()


@pytest.fixture(scope="module")
def typed():
    return [line for page in typed_pages() for line in typed_on(page)]


def test_each_reason_not_to_run_a_line_is_needed(typed):
    assert {line.skipped for line in typed if line.skipped} == set(SKIPPED.values())


def test_all_python_and_most_kinds_of_commands_are_run(typed):
    run = [line for line in typed if not line.skipped]
    assert {line.language for line in run} == {"bash", "python"}
    assert not [line for line in typed if line.language == "python" and line.skipped]
    commands = {line.text.split()[0] for line in run if line.language == "bash"}
    assert commands >= {"ttt-run", "ttt-compare", "ttt-report", "ttt-probe", "ttt-stream", "ttt-check"}


def test_what_only_prints_is_run(typed, tmp_path):
    for line in {x.text for x in typed if "--help" in x.text}:
        command = [sys.executable, "-m", line.split()[0].replace("ttt-", "ttt.cli."), *line.split()[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), line
