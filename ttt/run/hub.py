"""Hugging Face's hub, where there is no network."""

from __future__ import annotations

from ttt.tasks.machinery.hub import work_offline


def look_only_here_without_network() -> None:
    """Where the hub does not answer, let libraries look into their caches only.

    They would ask for more than a minute.
    """
    import datasets
    from huggingface_hub import constants

    try:
        work_offline()
    except ConnectionError:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
