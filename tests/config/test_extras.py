"""Hints to install something name the packages of pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ttt.config.extras import PACKAGES, install

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", PACKAGES)
def test_it_names_the_packages_of_the_extra(extra):
    assert set(PACKAGES[extra]) == {package for package in EXTRAS[extra] if not package.startswith("ttt[")}
    assert all(f'"{package}"' in install(extra) for package in EXTRAS[extra])
