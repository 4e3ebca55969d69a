"""Jobs in processes: all results come back, and a job that kills its process is the only one lost."""

import os
import pickle
import sys

import pytest

from medssl.errors import CacheError, ConfigError, FormatError, MissingDependencyError
from medssl.pool import default_workers, run_jobs


def square(number: int) -> int:
    if number == 3:
        os._exit(9)  # as a segmentation fault in a decoder would
    return number * number


def refuse(number: int) -> int:
    raise FormatError(f"{number}.nii", "it is no scan") if number else CacheError("the disk is full")


def lost(job) -> str:
    return f"lost {job[0]}"


def test_one_process_does_the_jobs_in_order():
    assert list(run_jobs(square, {7: (2,), 1: (5,)}, workers=1, crashed=lost)) == [(7, 4), (1, 25)]
    assert default_workers() in range(1, 9)


@pytest.mark.slow
def test_a_job_that_kills_its_process_is_the_only_one_lost():
    found = dict(run_jobs(square, {n: (n,) for n in range(8)}, workers=2, crashed=lost))
    assert found == {n: "lost 3" if n == 3 else n * n for n in range(8)}


@pytest.mark.slow
def test_those_behind_a_crash_still_share_processes():
    """Only the jobs in hand are tried one by one: a process each for all that wait would take hours."""
    assert len({pid for _, pid in run_jobs(process, {n: (n,) for n in range(40)}, workers=2, crashed=lost)}) <= 8


def process(number: int) -> int:
    if number == 3:
        os._exit(9)
    return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "error"), [(0, CacheError), (5, FormatError)])
def test_an_error_of_a_job_is_raised_as_it_was(number, error):
    with pytest.raises(error, match=r"disk is full|5\.nii: it is no scan"):
        list(run_jobs(refuse, dict.fromkeys(range(3), (number,)), workers=2, crashed=lost))


def test_errors_travel_between_processes():
    again = pickle.loads(pickle.dumps(FormatError("a.nii", "it is no scan")))
    assert (str(again), again.reason) == ("a.nii: it is no scan", "it is no scan")


def test_an_engine_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(ConfigError, match="processes"):
        list(run_jobs(square, {0: (1,)}, workers=1, crashed=lost, engine="procesess"))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'medssl\[ray\]'"):
        list(run_jobs(square, {0: (1,)}, workers=1, crashed=lost, engine="ray"))


@pytest.mark.slow
def test_ray_gives_what_processes_give():
    ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'medssl[ray]'")
    try:
        found = dict(run_jobs(square, {n: (n,) for n in range(2, 6)}, workers=2, crashed=lost, engine="ray"))
        with pytest.raises(CacheError, match="disk is full"):
            list(run_jobs(refuse, {0: (0,)}, workers=1, crashed=lost, engine="ray"))
    finally:
        ray.shutdown()
    assert found == {2: 4, 3: "lost 3", 4: 16, 5: 25}
