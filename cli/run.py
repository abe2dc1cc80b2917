"""ttt-run: compose, check, build, run, report. Read `run_one` from top to bottom: it is a table of contents."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from ttt.cli.check import UsageError, arguments, check_command
from ttt.cli.help import help_text
from ttt.cli.sweep import Sweep

USAGE = 2


def run_one(config: dict[str, Any], *, trusted: list[Path]) -> int:
    """One run, from a resolved config to an exit code."""
    # Imported here: `--help` and a typo need no torch.
    from ttt.cli.execute import execute
    from ttt.cli.screen import Screen

    from ttt.assemble import assemble
    from ttt.runfolder import RunFolder

    screen = Screen()
    try:
        assembly = assemble(config, trusted=trusted)
        folder = RunFolder(assembly.info.folder)
        if folder.status().get("status") == "done":
            screen.finished_before(folder)
            return 0
        folder.open()
    except ValueError as error:
        raise UsageError(str(error)) from error
    return execute(assembly, folder, screen)


def preview_one(config: dict[str, Any], *, trusted: list[Path]) -> int:
    """The stream of a run, shown without training; nothing is written but prepared data."""
    from ttt.cli.preview import preview

    from ttt.assemble import assemble

    try:
        preview(assemble(config, trusted=trusted))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return 0


def composed(action: Callable[..., int]) -> Callable[[], None]:
    """What Hydra calls: `action` on the resolved config."""

    @hydra.main(version_base="1.3", config_path="pkg://ttt.conf", config_name="config")
    def start(config: DictConfig) -> int:
        sources = HydraConfig.get().runtime.config_sources
        trusted = [Path(source.path) for source in sources if source.provider == "command-line"]
        resolved: Any = OmegaConf.to_container(config, resolve=True)
        sys.path.extend(str(path) for path in trusted if str(path) not in sys.path)
        try:
            code = action(resolved, trusted=trusted)
        except UsageError as error:
            sys.exit(complain(error))
        if code:
            sys.exit(code)
        return code

    return start


def complain(error: UsageError) -> int:
    print(f"ttt-run: {error}", file=sys.stderr)
    return USAGE


def main() -> None:
    """The console command."""
    try:
        typed = arguments(sys.argv[1:])
        sys.exit(answer(typed) or None)
    except UsageError as error:
        sys.exit(complain(error))


def answer(typed: argparse.Namespace) -> int:
    """Check the command, then hand it to Hydra, or run the sweep it asks for."""
    if typed.help:
        print(help_text())
        return 0
    # Hydra wants options before overrides.
    options = [word for word in sys.argv[1:] if word not in (*typed.overrides, "--preview")]
    sys.argv[1:] = [*options, *typed.overrides]
    asks = typed.hydra_help or typed.shell_completion
    # A launcher or sweeper from elsewhere (submitit, say) takes the sweep from us.
    foreign = any(word.startswith(("hydra/launcher=", "hydra/sweeper=")) for word in typed.overrides)
    if not asks and not foreign:
        if typed.multirun and (typed.cfg or typed.info or typed.preview):
            raise UsageError("-m goes with neither --cfg, --info nor --preview: show one run at a time")
        config = check_command(typed)
        if typed.multirun:
            return Sweep.of(config, config_dir=typed.config_dir).run(typed.overrides)
    composed(preview_one if typed.preview else run_one)()
    return 0


if __name__ == "__main__":
    main()
