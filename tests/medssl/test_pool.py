"""Jobs in processes: all results come back, and a job that kills its process is the only one lost."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medssl.errors import CacheError, ConfigError, FormatError, MissingDependencyError
from medssl.pool import default_workers, run_jobs


def square(number: int) -> int:
    if number == 3:
        os._exit(9)  # as a segmentation fault in a decoder would
    return number * number


def refuse(number: int) -> int:
    raise FormatError(f"{number}.nii", "it is no scan") if number else CacheError("the disk is full")


def lost(job, why) -> str:
    return f"lost {job[0]}"


def test_one_process_does_the_jobs_in_order():
    assert list(run_jobs(square, {7: (2,), 1: (5,)}, workers=1, crashed=lost)) == [(7, 4), (1, 25)]
    assert default_workers() in range(1, 9)


def here(_: int) -> str:
    return str(Path.cwd())


def test_a_worker_of_an_earlier_call_works_in_the_folder_of_this_one(tmp_path, monkeypatch):
    """Relative paths are those of the caller; a store was written beside another folder of a notebook once."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert list(run_jobs(here, {0: (0,)}, workers=1, crashed=lost)) == [(0, str(tmp_path / name))]


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


WORK = """
import os, time

def slow(folder, number):
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(120)

def square(number):
    return number * number
"""
SCRIPT = """
import sys
from medssl.pool import run_jobs
from work_of_script import slow, square

"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, how):
    script, pids = tmp_path / "script.py", tmp_path / "pids"
    pids.mkdir()
    (tmp_path / "work_of_script.py").write_text(WORK)
    script.write_text(
        SCRIPT + "list(run_jobs(slow, {n: (sys.argv[1], n) for n in range(2)}, workers=2, crashed=str))\n"
    )
    with subprocess.Popen([sys.executable, script, pids]) as parent:
        until(lambda: len(list(pids.iterdir())) == 2)
        parent.send_signal(how)
    until(lambda: not any(alive(int(file.name)) for file in pids.iterdir()))


def until(true) -> None:
    ends = time.monotonic() + 60  # the workers sleep twice as long
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    (tmp_path / "work_of_script.py").write_text(WORK)
    script.write_text(SCRIPT + "print('once', dict(run_jobs(square, {1: (3,), 2: (4,)}, workers=2, crashed=str)))\n")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=100)
    assert ended.stderr == ""
    assert ended.stdout in ("once {1: 9, 2: 16}\n", "once {2: 16, 1: 9}\n")


def test_what_a_script_defines_is_refused_with_the_way_out(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from medssl.pool import isolated\ndef own(x):\n    return x\nisolated(own, 1)\n")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=100)
    assert "own: a worker process cannot import what a script itself defines" in ended.stderr


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
