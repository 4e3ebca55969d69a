"""A file that ends or hangs its reader costs itself alone: it is named, and the rest of the folder is indexed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medssl.errors import FormatError
from medssl.manifest.build import build_manifest
from medssl.manifest.series import series_sources
from medssl.pool import file_limits, isolated, run_jobs
from tests.fuzz.killers import KILLERS, reader
from tests.fuzz.seeds import seed_of

GOOD = [f"good{n}" for n in range(12)]


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def rows(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deadly")
    for name in [*GOOD, *KILLERS]:
        (folder / f"{name}.xyz").write_bytes(b"1 2 3\n")
    with file_limits(seconds=2, memory_gb=1):
        manifest = build_manifest(folder, clouds=reader(), workers=request.param)[0]
    return {Path(row["path"]).stem: row for row in manifest.rows()}


def test_the_rest_of_the_folder_is_there_in_its_order(rows):
    assert list(rows) == sorted([*GOOD, *KILLERS])
    assert [name for name, row in rows.items() if row["error"] is None] == sorted(GOOD)


@pytest.mark.parametrize("name", KILLERS)
def test_the_culprit_is_named_with_what_happened(rows, name):
    assert re.search(KILLERS[name][1], rows[name]["error"]), rows[name]["error"]


def pid_of(_: object) -> int:
    return os.getpid()


def nested(path: str) -> bool:
    return isolated(pid_of, path) == os.getpid() and dict(run_jobs(pid_of, {0: (path,)}, workers=4, crashed=str)) == {
        0: os.getpid()
    }


def test_work_is_done_elsewhere_and_a_worker_does_its_own(tmp_path):
    assert isolated(pid_of, tmp_path) != os.getpid()
    assert isolated(nested, tmp_path)


def test_threads_have_workers_of_their_own(tmp_path):
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: isolated(pid_of, tmp_path), range(8)))
    assert os.getpid() not in found


def crash(path: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_one_file_that_kills_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FormatError, match=r"a\.nii: The process that read it died \(SIGSEGV\)"):
        isolated(crash, tmp_path / "a.nii")


def forked(path: str) -> int:
    return isolated(pid_of, path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_takes_no_worker_of_its_parent(tmp_path):
    theirs = isolated(pid_of, tmp_path)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, json.dumps(isolated(pid_of, tmp_path)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(os.read(read, 100)) != theirs
    assert isolated(pid_of, tmp_path) == theirs


SCRIPT = """
import sys
from pathlib import Path
from medssl.manifest.build import build_manifest
from medssl.manifest.series import series_sources
from tests.fuzz.killers import reader
from pipelines.options import call
build_manifest(Path(sys.argv[1]), clouds=reader(), workers=1, progress=lambda *_: print("going", flush=True))
"""


def test_ctrl_c_ends_the_workers_too(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "loop.xyz").write_bytes(b"1 2 3\n")
    (tmp_path / "run.py").write_text(SCRIPT)
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, tmp_path / "run.py", tmp_path / "scans"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root},
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        ends = time.monotonic() + 60
        while len(group := members(process.pid)) < 2 and time.monotonic() < ends:
            time.sleep(0.05)
        assert len(group) == 2
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does, to parent and worker
        process.wait(60)
    ends = time.monotonic() + 20
    while members(process.pid) and time.monotonic() < ends:
        time.sleep(0.05)
    assert members(process.pid) == []


def members(group: int) -> list[int]:
    """Return the living processes of a group."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with Path("/proc", entry.name, "stat").open(encoding="latin-1") as file:
                    state = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(state[2]) == group and state[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_a_dicom_file_that_hangs_costs_itself_and_not_its_folder(tmp_path):
    sound = seed_of("dicom")
    for name, content in {"m.dcm": sound.content, **sound.beside}.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "z.dcm")  # handed over as if it were a file: opening it waits for ever
    with file_limits(seconds=20, memory_gb=1):
        sources, _ = series_sources(sorted(tmp_path.iterdir()), tmp_path, old={}, marks={}, workers=1)
    errors = {source.path.name: source.error for source in sources if source.error}
    assert list(errors) == ["z.dcm"]
    assert "longer than 20 s" in errors["z.dcm"]
    (series,) = [source for source in sources if not source.error]
    assert len(series.paths) == 4
