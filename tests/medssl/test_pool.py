"""Jobs in processes: all results come back, and a job that kills its process is the only one lost."""

import os

import pytest

from medssl.pool import default_workers, run_jobs


def square(number: int) -> int:
    if number == 3:
        os._exit(9)  # as a segmentation fault in a decoder would
    return number * number


def lost(job) -> str:
    return f"lost {job[0]}"


def test_one_process_does_the_jobs_in_order():
    assert list(run_jobs(square, {7: (2,), 1: (5,)}, workers=1, crashed=lost)) == [(7, 4), (1, 25)]
    assert default_workers() in range(1, 9)


@pytest.mark.slow
def test_a_job_that_kills_its_process_is_the_only_one_lost():
    found = dict(run_jobs(square, {n: (n,) for n in range(8)}, workers=2, crashed=lost))
    assert found == {n: "lost 3" if n == 3 else n * n for n in range(8)}
