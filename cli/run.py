"""ttt-run: compose, check, build, run, report.

What a run is, from a resolved config on, is in ttt.cli.runs.one.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ttt.cli.announce import announce_folder, announce_refusal
from ttt.cli.completion.shells import script
from ttt.cli.console import say_error
from ttt.cli.outlet import outlast_readers
from ttt.cli.process import in_own_process, leave
from ttt.cli.runs.check import check_command
from ttt.cli.runs.clean import clean
from ttt.cli.runs.display import EVERYTHING, OPTIONS, Display
from ttt.cli.runs.help import help_text
from ttt.cli.runs.outcome import show_recalled
from ttt.cli.runs.parser import parse_command
from ttt.cli.runs.sync import sync
from ttt.cli.sweeps.launch import check_search, is_ours, launch
from ttt.cli.sweeps.plan import dry_run
from ttt.cli.sweeps.select import chosen_sweeps
from ttt.cli.sweeps.study import expand
from ttt.cli.sweeps.sweep import Sweep
from ttt.config.messages import UsageError
from ttt.devices.processes import is_first_here, several_started
from ttt.run.compose import resolve, with_base_seed
from ttt.run.exit_codes import ExitCode
from ttt.run.signals import TerminatedError, stoppable
from ttt.storage.files import FULL, no_room
from ttt.training.saving import StoppedError


def run_one(
    config: dict[str, Any],
    *,
    trusted: list[Path],
    references: dict[str, Path] | None = None,
    display: Display = EVERYTHING,
) -> int:
    """One run, from a resolved config to an exit code; signals stop it.

    `references`: folders of its reference runs, if these are done.
    """
    # Imported here: `--help`, a typo and a run that is done need no torch.
    from ttt.cli.runs.one import start

    try:
        with stoppable():
            return start(config, trusted=trusted, references=references, display=display).code
    except StoppedError:
        # Before the run began: there is nothing to save.
        return ExitCode.REQUEUE
    except TerminatedError as stop:
        return 128 + stop.number
    except Exception as error:
        return _before_it_began(error)


def _before_it_began(error: Exception) -> int:
    """Say why a run could not begin; return its exit code. Raises a UsageError as it is."""
    from ttt.run.endings import is_too_large, too_large

    if isinstance(error, UsageError):
        raise error
    if is_too_large(error):
        raise UsageError(too_large(error)) from error
    if isinstance(error, OSError) and error.errno in FULL:
        say_error(f"ttt-run: {no_room(error)}")
        return ExitCode.DISK
    # A bug of ours, or of the user's own part: the traceback says where.
    traceback.print_exception(error)
    return ExitCode.BUG


def preview_one(config: dict[str, Any], *, trusted: list[Path]) -> int:
    """Show the stream of a run without training; nothing is written but prepared data."""
    from ttt.cli.runs.preview import preview
    from ttt.run.assemble import assemble

    try:
        preview(assemble(config, trusted=trusted))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return 0


def composed(action: Callable[..., int]) -> Callable[[], None]:
    """The function that Hydra calls: `action` on the resolved config."""

    @hydra.main(version_base="1.3", config_path="pkg://ttt.conf", config_name="config")
    def start(config: DictConfig) -> int:
        sources = HydraConfig.get().runtime.config_sources
        # Classes are imported only from a folder that was typed.
        trusted = [Path(source.path) for source in sources if source.provider == "command-line"]
        resolved = with_base_seed(dict(OmegaConf.to_container(config, resolve=True)))  # type: ignore[arg-type]
        sys.path.extend(str(path) for path in trusted if str(path) not in sys.path)
        try:
            code = action(resolved, trusted=trusted)
        except UsageError as error:
            sys.exit(complain(error))
        if several_started():
            leave(code)
        if code:
            sys.exit(code)
        return code

    return start


def complain(error: UsageError) -> int:
    """Print the one line of a refusal; return its exit code."""
    if is_first_here():
        say_error(f"ttt-run: {error}")
        announce_refusal(str(error))
    return ExitCode.USAGE


def interrupted() -> int:
    """Print the one line of Ctrl-C outside the stream of a run; return its exit code."""
    if is_first_here():
        say_error("ttt-run: interrupted")
    return ExitCode.INTERRUPTED


@in_own_process
def main() -> None:
    """The console command."""
    outlast_readers()
    try:
        word, words = sys.argv[1:2], sys.argv[2:]
        if word in (["clean"], ["sync"]):
            sys.exit((clean if word == ["clean"] else sync)(words) or None)
        typed = parse_command(sys.argv[1:])
        sys.exit(answer(typed) or None)
    except UsageError as error:
        sys.exit(complain(error))
    except KeyboardInterrupt:
        sys.exit(interrupted())


def answer(typed: argparse.Namespace) -> int:
    """Check the command, then run it: a question to Hydra, a sweep, or one run.

    Return the exit code.
    """
    # Questions about the command are answered without its config.
    if typed.help:
        print(help_text(typed.overrides, config_dir=typed.config_dir))
        return 0
    if typed.completion:
        print(script(typed.completion), end="")
        return ExitCode.DONE
    if typed.shell_completion:
        raise UsageError('-sc: completion comes by eval "$(ttt-run --completion bash)"')
    display = display_of(typed)
    # Hydra wants options before overrides.
    options = [word for word in sys.argv[1:] if word not in (*typed.overrides, "--preview", *OPTIONS)]
    # Hydra reads sys.argv by itself.
    sys.argv[1:] = [*options, *typed.overrides]
    if not typed.hydra_help:
        sweeps = expand(typed)
        if sweeps[0].multirun and (typed.cfg or typed.info or typed.preview):
            raise UsageError("-m goes with neither --cfg, --info nor --preview: show one run at a time")
        # A study is checked to its end before its first run starts.
        checked = [(each, check_command(each)) for each in sweeps]
        if sweeps[0].multirun:
            if several_started():
                raise UsageError(
                    "-m: torchrun started several processes, and each would start the whole sweep; type it without "
                    "torchrun: with trainer=ddp each run starts its own"
                )
            only, config_dir = sweeps[0].only, typed.config_dir
            if only:
                words = [each.overrides for each in sweeps]
                checked = [checked[i] for i in chosen_sweeps(words, only=only, config_dir=config_dir)]
            return one_after_another(checked)
        # A run that is done is shown without torch.
        if not (typed.cfg or typed.info or typed.preview) and _show_finished(checked[0][1], typed.config_dir, display):
            return ExitCode.DONE
    # Hydra composes the config once more, and calls the action with it.
    composed(preview_one if typed.preview else partial(run_one, display=display))()
    return 0


def _show_finished(config: DictConfig, config_dir: str | None, display: Display) -> bool:
    """Show the run of this config if it is done, and its data and code are as they were."""
    place = show_recalled(resolve(config), trusted=[Path(config_dir)] if config_dir else [], display=display)
    if place is not None:
        announce_folder(place.folder, before=True, code=place.code)
    return place is not None


def display_of(typed: argparse.Namespace) -> Display:
    return Display(quiet=typed.quiet, plain=typed.plain, verbose=typed.verbose)


def one_after_another(sweeps: Sequence[tuple[argparse.Namespace, DictConfig]]) -> int:
    """Run sweeps in turn; return the worst of their exit codes.

    Failed runs do not keep the next sweep from starting, a stop does.
    """
    code = 0
    for typed, config in sweeps:
        # Exit codes are ordered by how bad they are:
        # done, failed runs, then all that stops a study.
        code = max(code, sweep(typed, config))
        if code > ExitCode.FAILED:
            break
    return code


def sweep(typed: argparse.Namespace, config: DictConfig) -> int:
    """Show many runs, start them here, or hand them to a launcher or sweeper of Hydra's."""
    try:
        if any(word.startswith("sweep.objective=") for word in typed.overrides):
            check_search(config)
        if typed.dry_run:
            return dry_run(typed.overrides, config=config, config_dir=typed.config_dir, only=typed.only)
        if is_ours(config):
            display = display_of(typed)
            return Sweep.of(
                config, typed=typed.overrides, config_dir=typed.config_dir, only=typed.only, display=display
            ).run()
        if typed.only:
            raise UsageError(f"--only {typed.only[0]}: goes with runs that are started here, without Hydra's launchers")
        return launch(config, typed=typed.overrides, config_dir=typed.config_dir)
    except ValueError as error:
        raise UsageError(str(error)) from error


if __name__ == "__main__":
    main()
