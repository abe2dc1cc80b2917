"""ttt-export: a run of a pretrained model as a folder that transformers or peft opens.

    ttt-export RUN --to FOLDER             the model; with strategy=lora_task the updates, for peft
    ttt-export RUN --to FOLDER --merge     the model, with its low-rank updates merged into it

RUN is a folder that ttt-run made with model=hf or model=smollm2. What the adapter learned lies
beside in fast_weights.safetensors; FOLDER/README.md says how to open both. Exit codes: 0; 2 the
command was wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ttt.cli.console import say_error
from ttt.cli.outlet import outlast_readers
from ttt.cli.parser import CommandParser
from ttt.cli.process import in_own_process
from ttt.run.exit_codes import ExitCode
from ttt.storage.absent import check_is_new, check_is_run


@in_own_process
def main() -> None:
    """Run the console command."""
    outlast_readers()
    try:
        typed = export_parser().parse_args()
        check_is_run(typed.run)
        check_is_new(typed.to, option="--to")
        # Imported here, so that `--help` does not wait for torch.
        from ttt.export.export import export

        trusted = [typed.config_dir] if typed.config_dir else []
        sys.path.extend(str(path) for path in trusted if str(path) not in sys.path)
        export(typed.run, to=typed.to, merge=typed.merge, trusted=trusted)
    except ValueError as error:
        say_error(f"ttt-export: {error}")
        sys.exit(ExitCode.USAGE)
    size = sum(file.stat().st_size for file in typed.to.iterdir())
    print(f"wrote {typed.to} ({size / 1e6:,.0f} MB)")


def export_parser() -> CommandParser:
    parser = CommandParser("ttt-export", about=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument("--merge", action="store_true", help="add low-rank updates to the matrices")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="the folder of your own modules, as in ttt-run")
    return parser


if __name__ == "__main__":
    main()
