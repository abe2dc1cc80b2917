"""The code of a commit beside that of the checkout, each as a tree that Python imports.

TREE/ttt/run      a link to ttt/run, and so on
TREE/ttt/cli      a link to cli: outside of ttt until it is installed
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import ttt

# What lies beside ttt/ and is installed below it.
BESIDE = ("cli", "conf", "tasks", "kernels")


def checkout() -> Path:
    """The checkout that this code comes from. Raises ValueError where it is installed elsewhere."""
    package = Path(ttt.__file__).resolve().parent
    try:
        top = _git(package, "rev-parse", "--show-toplevel").decode().strip()
    except (OSError, ValueError) as error:
        raise ValueError(f"--against: needs a checkout of ttt with its history, and {package} is none") from error
    return Path(top)


def commit_of(typed: str) -> str:
    """The hash of a commit. Raises ValueError for what git does not know."""
    root = checkout()
    try:
        name = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{typed}^{{commit}}")
    except ValueError as error:
        raise ValueError(f"--against {typed}: git knows no such commit") from error
    return name.decode().strip()


def code_of(commit: str, folder: Path) -> Path:
    """Write the code of a commit into `folder`. Raises ValueError where it has none."""
    try:
        archive = _git(checkout(), "archive", "--format=tar", commit, "ttt", *BESIDE)
    except ValueError as error:
        raise ValueError(f"--against {commit}: holds no {', '.join(('ttt', *BESIDE))}") from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def tree_of(code: Path, tree: Path) -> Path:
    """Lay the folders of some code out as they are installed, by links."""
    package = tree / "ttt"
    package.mkdir(parents=True)
    for item in sorted((code / "ttt").iterdir()):
        (package / item.name).symlink_to(item)
    for name in BESIDE:
        (package / name).symlink_to(code / name)
    return tree


def _git(folder: Path, *words: str) -> bytes:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace"))
    return done.stdout
