"""A run that is stopped inside a task goes on to the last bit as if it had not been."""

from __future__ import annotations

import zlib

import pytest
from stopped_jobs import JOBS
from stopping import broken, unbroken
from strategy_jobs import make


@pytest.mark.parametrize("job", JOBS)
def test_a_run_that_is_stopped_inside_a_task_goes_on_to_the_last_bit(job, tmp_path):
    def new():
        return make(*JOBS[job])

    whole, rests = unbroken(new, tmp_path / "whole")
    # At which step differs from job to job; all of them are for `make torture`.
    first = 2 + zlib.crc32(job.encode()) % (rests - 3)
    assert broken(new, tmp_path / "broken", stops=(first,)) == whole
