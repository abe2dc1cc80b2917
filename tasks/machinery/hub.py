"""The Hugging Face hub, as far as a user without a network must hear of it.

    source.path=stanfordnlp/imdb: no such file here, and the hub cannot be reached; ...

Whether the hub can be reached is tried first: `datasets` itself would try for a minute before it
gives up.
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

# How long a look-up of the name and a connection may take together.
SECONDS = 2.0
WITHOUT = (
    "without a network: source.path=FILE.parquet|.jsonl|.csv, source=text source.path=FOLDER, "
    "or source=languages|code|prose|tables"
)

# How `datasets` begins a complaint about one of our arguments.
BEGINNINGS = {"split": ("Bad split", "Unknown split"), "subset": ("Config name is missing", "BuilderConfig")}


def offline_error(path: str) -> ValueError:
    """Return the error for a dataset of the hub that cannot be reached."""
    return ValueError(f"source.path={path}: no such file here, and the hub cannot be reached; {WITHOUT}")


def work_offline() -> bool:
    """Return whether the user wants to work offline (HF_HUB_OFFLINE=1).

    If not, raises ConnectionError when the hub does not answer.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    # Behind a proxy only the proxy can be reached: whether it answers is what counts.
    url = urllib.request.getproxies().get("https", constants.ENDPOINT)
    address = urlsplit(url if "//" in url else f"//{url}")
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

    # In a thread, since looking up a name has no time limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return answered.is_set()


def hub_refusal(error: Exception, typed: Mapping[str, str | None]) -> str:
    """Return what `datasets` says, in one line that begins with what was typed.

    `typed` holds the arguments that an error may be about, by name.
    """
    # Two lines: the first often only announces what the second says.
    message = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
    argument = next((name for name, beginnings in BEGINNINGS.items() if message.startswith(beginnings)), "path")
    value = typed[argument]
    return f"source.{argument}={'null' if value is None else value}: {message}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep `datasets` from drawing bars, logging errors that we report, and leaving files open."""
    import datasets

    before = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)
        # A CSV file that was not read to its end stays open in a cycle of references in `datasets`.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
