"""How many cores `auto` takes: the least of affinity, quota, SLURM and OMP_NUM_THREADS."""

from __future__ import annotations

import os

import pytest

from ttt.devices.cores import usable_cores, usable_threads


@pytest.fixture
def many(monkeypatch):
    """A process that may run on 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


def cgroup(root, lines, files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def test_affinity_alone(many, tmp_path):
    assert usable_cores(root=tmp_path, environment={}) == 64


@pytest.mark.parametrize(("content", "cores"), [("max 100000\n", 64), ("250000 100000\n", 2), ("50000 100000\n", 1)])
def test_quota_of_version_2(many, tmp_path, content, cores):
    cgroup(tmp_path, "0::/job/step\n", {"job/cpu.max": content, "job/step/cpu.max": "max 100000\n"})
    assert usable_cores(root=tmp_path, environment={}) == cores


def test_quota_of_version_1(many, tmp_path):
    files = {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    cgroup(tmp_path, "4:cpu,cpuacct:/docker/x\n1:memory:/docker/x\n", files)
    assert usable_cores(root=tmp_path, environment={}) == 4


def test_slurm_and_openmp(many, tmp_path):
    environment = {"SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": "3,1"}
    assert usable_cores(root=tmp_path, environment=environment) == 8
    assert usable_threads(root=tmp_path, environment=environment) == 3
    assert usable_threads(root=tmp_path, environment={"OMP_NUM_THREADS": "many"}) == 64


def test_this_machine():
    assert 1 <= usable_threads() <= (os.cpu_count() or 1)
