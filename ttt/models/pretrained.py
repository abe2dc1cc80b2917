"""Pretrained weights and tokenizers, on this disk or on the hub, opened without foreign code.

Weights are read from safetensors only: pickles and a repository's own Python are refused.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ttt.models.memory import available_bytes, gigabytes
from ttt.models.smollm2 import PACKAGED, converted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What the fingerprint of a file of weights reads of it.
SAMPLES, SAMPLE_BYTES = 16, 2**18
INSTALL = 'needs transformers: pip install "transformers>=5"'


@dataclass(frozen=True)
class Pretrained:
    """Which model: `smollm2`, a folder, or OWNER/NAME on the hub, there at a `revision`."""

    name: str
    revision: str | None
    cache_dir: str

    @property
    def typed(self) -> str:
        return f"model.name={self.name}"

    def place(self) -> str:
        """Return what transformers calls the name or path.

        Raises ValueError for a missing folder.
        """
        if self.name == "???":
            raise ValueError(f"model.name: missing; type model.name=FOLDER, model.name=OWNER/NAME or model={PACKAGED}")
        if self.name == PACKAGED:
            return str(converted(Path(self.cache_dir).expanduser()))
        path = Path(self.name).expanduser()
        if path.is_dir():
            if not (path / "config.json").is_file():
                raise ValueError(f"{self.typed}: the folder holds no config.json of a model")
            return str(path)
        if path.exists():
            raise ValueError(f"{self.typed}: is a file; name the folder that holds config.json and *.safetensors")
        # A name on the hub has one slash and no dots in front; anything else must be a path.
        if self.name.count("/") != 1 or self.name.startswith((".", "~", "/")):
            raise ValueError(f"{self.typed}: no such folder{_nearest(path)}; allowed: a folder, OWNER/NAME, {PACKAGED}")
        return self.name

    def fingerprint(self) -> str:
        """Return a hash of the weights in a folder; empty for the hub, where the commit says all.

        Of each file it takes the size and samples: reading a large model twice would take minutes.
        """
        folder = Path(self.place())
        if not folder.is_dir():
            return ""
        digest = hashlib.sha256((folder / "config.json").read_bytes())
        for file in sorted(folder.glob("*.safetensors")):
            size = file.stat().st_size
            digest.update(f"{file.name} {size}\n".encode())
            with file.open("rb") as stream:
                for part in range(SAMPLES):
                    stream.seek(part * max(size - SAMPLE_BYTES, 0) // (SAMPLES - 1))
                    digest.update(stream.read(SAMPLE_BYTES))
        return digest.hexdigest()


def load_pretrained(which: Pretrained, *, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """Return the model in training mode. Raises ValueError, in one line, where it cannot be."""
    transformers = library(which)
    place = which.place()
    # On the meta device a model has no numbers: whoever builds it there reads them later.
    if torch.empty(0).device.type == "meta":
        return _without_weights(which, place, dtype=dtype, attention=attention)
    _check_weights(which, place, dtype=dtype)
    with refusing(which), quiet():
        model: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(
            place,
            revision=which.revision,
            dtype=dtype,
            # Without a choice the library takes sdpa where a family has it.
            attn_implementation=None if attention == "auto" else attention,
            use_safetensors=True,
            trust_remote_code=False,
        )
    # Dropout would make training differ from what evaluation reads; the family has none by default.
    return model.train()


def _without_weights(which: Pretrained, place: str, *, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    from transformers.initialization import no_init_weights

    auto = library(which)
    options = {"attn_implementation": None if attention == "auto" else attention, "trust_remote_code": False}
    with refusing(which), quiet(), no_init_weights():
        config = auto.AutoConfig.from_pretrained(place, revision=which.revision, trust_remote_code=False)
        model: PreTrainedModel = auto.AutoModelForCausalLM.from_config(config, dtype=dtype, **options)
        # Without initial weights the library leaves this out.
        model.tie_weights()
    return model.train()


def tokenizer_of(model: Mapping[str, Any], cache_dir: str) -> Callable[[], str] | None:
    """Return a function that reads the tokenizer.json of a model; None for a model without one.

    `model`: the section of a config.
    """
    if model.get("tokenizer") != "model":
        return None
    which = Pretrained(str(model["name"]), revision=model.get("revision"), cache_dir=cache_dir)

    def read() -> str:
        place = which.place()
        file = Path(place) / "tokenizer.json"
        if file.is_file():
            return file.read_text()
        with refusing(which), quiet():
            tokenizer = library(which).AutoTokenizer.from_pretrained(
                place, revision=which.revision, trust_remote_code=False
            )
            return str(tokenizer.backend_tokenizer.to_str())

    return read


def library(which: Pretrained) -> Any:
    """Return the module `transformers`. Raises ValueError if it is not installed."""
    try:
        # Imported here: it takes over a second, which runs of other models need not spend.
        import transformers
    except ImportError as error:
        raise ValueError(f"{which.typed}: {INSTALL}") from error
    return transformers


@contextmanager
def refusing(which: Pretrained) -> Iterator[None]:
    """Turn what transformers raises into one line that begins with what was typed."""
    try:
        yield
    # ImportError: a package that attention or tokenizer need. AttributeError: no fast tokenizer.
    except (OSError, ValueError, ImportError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{which.typed}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "trust_remote_code" in text or "custom code" in text:
        return "brings Python code of its own, which is never run; only models of transformers itself"
    if "safetensors" in text:
        return "has no *.safetensors; weights in pickles are not read, because a pickle can run code"
    if "support an attention implementation" in text:
        return "has no attention of this kind; use model.attention=auto"
    offline = ("couldn't connect", "offline mode", "Max retries", "LocalEntryNotFound", "Cannot find an appropriate")
    if any(word in text for word in offline):
        return "is not on this disk, and the hub cannot be reached; download it first, or name a folder"
    # The first sentence says what is wrong; the rest is advice for other programs.
    return text.split(". ")[0][:200]


def _check_weights(which: Pretrained, place: str, *, dtype: torch.dtype) -> None:
    """Refuse, before anything is read, weights that are pickles or do not fit into memory."""
    folder = Path(place)
    if not folder.is_dir():
        return
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{which.typed}: {_reason(OSError('safetensors'))}")
    numbers = sum(_numbers(file, which) for file in files)
    needed, free = numbers * dtype.itemsize, available_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"{which.typed}: {numbers / 1e6:,.0f} M parameters take {gigabytes(needed)} as {str(dtype)[6:]}, "
            f"and {gigabytes(free)} of memory are free"
        )


def _numbers(file: Path, which: Pretrained) -> int:
    """Return how many numbers a file of weights holds, from its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            shapes = [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{which.typed}: {file.name} is damaged ({error})") from error
    return sum(torch.Size(shape).numel() for shape in shapes)


def _nearest(path: Path) -> str:
    """Return a hint at a folder with a similar name."""
    parent = path.absolute().parent
    names = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and advice of transformers off the screen while open."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    level, hub_level = logging.get_verbosity(), hub_logging.get_verbosity()
    logging.set_verbosity_error()
    # The hub warns about each request that fails, before it gives up with the error that is shown.
    hub_logging.set_verbosity(CRITICAL)
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if was_shown:
            logging.enable_progress_bar()
