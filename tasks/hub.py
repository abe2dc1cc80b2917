"""The Hugging Face hub, as far as a user without a network must be told about it.

    source.path=stanfordnlp/imdb: no such file here, and the hub cannot be reached; without a network: ...

Whether it can be reached is tried first: `datasets` itself would try for a minute before it gives up.
"""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

SECONDS = 2.0
WITHOUT = (
    "without a network: source.path=FILE.parquet|.jsonl|.csv, source=text source.path=FOLDER, "
    "or source=languages|code|prose|tables"
)


def offline_error(path: str) -> ValueError:
    return ValueError(f"source.path={path}: no such file here, and the hub cannot be reached; {WITHOUT}")


def check_reachable(path: str) -> bool:
    """Is the user offline on purpose (HF_HUB_OFFLINE=1)? Raises ValueError when the hub does not answer."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    address = urlsplit(urllib.request.getproxies().get("https", constants.ENDPOINT))
    if not _answers(address.hostname or "", address.port or 443):
        raise offline_error(path)
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
    argument = "split" if "split" in said.lower() else "subset" if "config" in said.lower() else "path"
    typed = asked[argument]
    return f"source.{argument}={'null' if typed is None else typed}: {said}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps `datasets` from drawing bars, and from logging what we say in one line."""
    import datasets

    before = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)
