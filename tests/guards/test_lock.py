"""The lock: what `make lock` wrote still fits what the project needs and what its tests ran with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
# Withdrawn from PyPI because they held malicious code.
MALICIOUS = {("lightning", "2.6.2"), ("lightning", "2.6.3")}


def locked() -> dict[str, str]:
    """The version of each package in requirements.lock."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", text)}


def test_lock_holds_every_dependency_in_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = locked()
    for needed in map(Requirement, project["dependencies"]):
        assert versions[canonicalize_name(needed.name)] in needed.specifier, needed


def test_every_locked_package_has_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    packages = re.split(r"(?m)^(?=[\w.-]+==)", text)[1:]
    assert len(packages) == len(locked()) > 50
    assert all("--hash=sha256:" in package for package in packages)


def test_lock_and_tests_use_the_same_versions() -> None:
    pins = [
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    ]
    tested = {canonicalize_name(name): version for name, version in pins}
    # Only the build of torch differs: `2.13.0+cpu` is 2.13.0.
    differ = {
        name: (version, tested[name])
        for name, version in locked().items()
        if name in tested and Version(tested[name]).public != Version(version).public
    }
    assert not differ


def test_no_release_known_to_be_malicious_is_locked() -> None:
    assert not MALICIOUS & set(locked().items())
