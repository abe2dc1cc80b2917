"""The Hugging Face hub, as far as a user without a network must be told about it.

    source.path=stanfordnlp/imdb: no such file here, and the hub cannot be reached; without a network: ...

Whether it can be reached is tried first: `datasets` itself would try for a minute before it gives up.
"""

from __future__ import annotations

import gc
import socket
import threading
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

SECONDS = 2.0
WITHOUT = (
    "without a network: source.path=FILE.parquet|.jsonl|.csv, source=text source.path=FOLDER, "
    "or source=languages|code|prose|tables"
)

# How `datasets` begins a complaint about one of our arguments.
BEGINNINGS = {"split": ("Bad split", "Unknown split"), "subset": ("Config name is missing", "BuilderConfig")}


def offline_error(path: str) -> ValueError:
    return ValueError(f"source.path={path}: no such file here, and the hub cannot be reached; {WITHOUT}")


def work_offline() -> bool:
    """Did the user ask for it (HF_HUB_OFFLINE=1)? If not: raises ConnectionError when the hub does not answer."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    typed = urllib.request.getproxies().get("https", constants.ENDPOINT)
    address = urlsplit(typed if "//" in typed else f"//{typed}")
    if not _answers(address.hostname or "", address.port or 443):
        raise ConnectionError(f"{address.hostname} does not answer")
    return False


def _answers(host: str, port: int) -> bool:
    answered = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout=SECONDS):
                answered.set()
        except OSError:
            return

    # A thread, since looking up a name has no time limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return answered.is_set()


def refusal(error: Exception, asked: Mapping[str, str | None]) -> str:
    """What `datasets` says, in one line that begins with what was typed."""
    said = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
    argument = next((name for name, beginnings in BEGINNINGS.items() if said.startswith(beginnings)), "path")
    typed = asked[argument]
    return f"source.{argument}={'null' if typed is None else typed}: {said}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps `datasets` from drawing bars, from logging what we say in one line, and from keeping files open."""
    import datasets

    before = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)
        # A CSV file that was not read to its end stays open in a cycle of references inside `datasets`.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
