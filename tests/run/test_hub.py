"""Where the hub does not answer, libraries look into their caches at once."""

from __future__ import annotations

import datasets
import pytest
from huggingface_hub import constants

from ttt.run.hub import look_only_here_without_network
from ttt.tasks.machinery import hub


@pytest.mark.parametrize("answers", [True, False])
def test_libraries_look_here_only_where_nobody_answers(monkeypatch, answers):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_answers", lambda host, port: answers)
    look_only_here_without_network()
    assert constants.HF_HUB_OFFLINE is datasets.config.HF_HUB_OFFLINE is not answers
