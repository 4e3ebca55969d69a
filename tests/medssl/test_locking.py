"""One writer at a time: the second is told who holds the output, and a lock whose owner is gone holds nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medssl.errors import BusyError, DiskError
from medssl.locking import held, holds, part_of
from pipelines.cli import app

HOLD = """
import sys, time
from pathlib import Path
from medssl.locking import held
with held(Path(sys.argv[1]), "medssl pretrain"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds ``tmp_path / "run"``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_told_who_holds_it(holder, tmp_path):
    with (
        pytest.raises(
            BusyError, match=rf"medssl pretrain is writing it \(process {holder.pid} on .+, since 20"
        ) as told,
        held(tmp_path / "run", "medssl finetune"),
    ):
        pass
    assert str(tmp_path / "run") in str(told.value)


def test_a_lock_whose_owner_was_killed_is_taken_over(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    deadline = time.monotonic() + 10
    while True:
        try:
            with held(tmp_path / "run", "medssl pretrain"):
                break
        except BusyError:
            assert time.monotonic() < deadline
    assert list(tmp_path.iterdir()) == []  # nothing is left lying about


def test_only_one_of_many_gets_it(tmp_path):
    code = (
        "import sys,time\nfrom pathlib import Path\nfrom medssl.errors import BusyError\n"
        "from medssl.locking import held\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "try:\n    with held(Path(sys.argv[1]), 'x'):\n        time.sleep(2)\n        print('got it')\n"
        "except BusyError:\n    print('busy')\n"
    )
    start = str(time.time() + 3)
    crowd = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "run", start], stdout=subprocess.PIPE, text=True)
             for _ in range(4)]  # fmt: skip
    said = sorted(process.communicate()[0].strip() for process in crowd)
    assert said == ["busy", "busy", "busy", "got it"]


@pytest.mark.parametrize(
    "words",
    [
        ("index", ".", "--out"),
        ("pretrain", "simclr_small", "--data", "store", "--resume", "--out"),
        ("finetune", "pre", "--data", "store", "--resume", "--out"),
        ("cache", "m.parquet", "--out"),
        ("reduce", "m.parquet", "--out"),
        ("evaluate", "seg", "--data", "store", "--out"),
        ("auto", ".", "--out"),
    ],
    ids=lambda words: words[0],
)
def test_every_verb_that_writes_waits_for_nobody(holder, tmp_path, words):
    result = CliRunner().invoke(app, [*words, str(tmp_path / "run")])
    assert result.exit_code == 2, result.output
    assert f"process {holder.pid}" in result.output
    assert not (tmp_path / "run").exists()


def test_shards_hold_their_own_part(tmp_path):
    assert part_of(tmp_path / "store", ["shard=2/8"]) != part_of(tmp_path / "store", ["shard=1/8"])
    with held(part_of(tmp_path / "s", shard="1/2"), "a"), held(part_of(tmp_path / "s", shard="2/2"), "b"):
        pass


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"])
def test_of_several_ranks_the_first_one_holds_it(holder, tmp_path, monkeypatch, variable):
    @holds("a verb", lambda given: Path(given["out"]))
    def verb(*, out: Path, dry_run: bool = False) -> str:
        return "done"

    with pytest.raises(BusyError):
        verb(out=tmp_path / "run")
    assert verb(out=tmp_path / "run", dry_run=True) == "done"
    monkeypatch.setenv(variable, "1")
    assert verb(out=tmp_path / "run") == "done"


def test_a_folder_that_is_ours_in_one_that_is_not(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    run = tmp_path / "above" / "run"
    run.mkdir(parents=True)
    run.parent.chmod(0o555)
    try:
        with held(run, "x"):
            assert (run / ".medssl.lock").exists()
    finally:
        run.parent.chmod(0o755)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_place_where_no_file_can_be_made_is_said_to_be_one():
    """There a lock cannot be had either, which is no sign of another process."""
    with pytest.raises(DiskError, match=r"/proc/nowhere: it cannot be written"), held(Path("/proc/nowhere"), "a test"):
        pass
