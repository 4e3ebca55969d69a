"""Four shards at once, real processes, killed at random and begun again: the store is byte for byte that of one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.formats.nifti import write_nifti
from medssl.manifest.schema import Manifest, manifest_of_rows, write_manifest
from medssl.store.build import _written_since
from medssl.store.lines import LINES, ListedEntries
from medssl.store.read import Store
from medssl.store.verify import verify

SCANS, SHARDS, ROUNDS = 14, 4, 4
AFFINE = np.diag([2.0, 2, 3, 1])
WATCHED = ("open", "os.rename", "os.remove", "os.mkdir")


def cohort(folder: Path) -> Manifest:
    """Write small scans, every third with a label, one of them damaged, and their manifest."""
    rows: list[dict[str, Any]] = []
    for number in range(SCANS):
        random = np.random.default_rng(number)
        scan, label = folder / f"s{number:02d}.nii.gz", folder / f"s{number:02d}_label.nii.gz"
        write_nifti(scan, random.integers(-1000, 400, (8, 9, 10)).astype(np.int16), AFFINE)
        if number == 5:
            scan.write_bytes(scan.read_bytes()[:200])
        if number % 3 == 0:
            write_nifti(label, random.integers(0, 3, (8, 9, 10)).astype(np.uint8), AFFINE)
        rows.append(
            {
                "id": f"s{number:02d}", "path": str(scan), "modality": "CT", "units": "HU", "shape": [8, 9, 10],
                "spacing_mm": [3.0, 2.0, 2.0], "affine": AFFINE.ravel().tolist(), "patient": f"p{number // 2}",
                "split": "train", "file_hash": f"{number:064x}",
                "label_path": str(label) if number % 3 == 0 else None,
            }
        )  # fmt: skip
    manifest = manifest_of_rows(rows)
    write_manifest(manifest, folder / "manifest.parquet")
    return manifest


def store_a_part(manifest: Path, out: Path, shard: str, dies_at: int, done: Path) -> None:
    """Run ``medssl cache``; be killed at the so-manieth time that a file of the store is touched, 0 for never."""
    from medssl import worker
    from medssl.store import index
    from medssl.workflows.cache import cache

    index.LINES_FROM = 3
    worker._here = True  # scans are stored in this process, so that it is killed in the midst of that too
    seen = 0

    def watch(event: str, given: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in WATCHED and str(given[0]).startswith(str(out)):
            seen += 1
            if seen == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    cache(manifest, out=out, overrides=[f"shard={shard}", "workers=1"])
    done.write_text(str(seen), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a store holds, without what killed processes left half written and what has the listing's time."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != LINES}


def test_a_file_that_gets_its_name_meanwhile_is_in_hand(tmp_path: Path) -> None:
    assert _written_since(tmp_path / ".writing-x.part", 0.0)
    (tmp_path / "old").touch()
    assert _written_since(tmp_path / "old", 0.0)
    assert not _written_since(tmp_path / "old", 1e11)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_killed_at_random_and_begun_again_the_store_is_that_of_one_process(tmp_path: Path) -> None:
    made = multiprocessing.get_context("forkserver")  # libraries are imported once, not twenty times
    made.set_forkserver_preload(["medssl.workflows.cache", "medssl.store.build", "medssl.store.plan", __name__])
    cohort(tmp_path)
    manifest, whole, parts = tmp_path / "manifest.parquet", tmp_path / "whole", tmp_path / "parts"

    def start(out: Path, shard: str, dies_at: int = 0) -> Any:
        done = tmp_path / f"done-{shard.replace('/', '-')}"
        done.unlink(missing_ok=True)
        process = made.Process(target=store_a_part, args=(manifest, out, shard, dies_at, done))
        process.start()
        return process

    one = start(whole, "1/1")
    one.join(120)
    assert one.exitcode == 0
    touches = int((tmp_path / "done-1-1").read_text(encoding="utf-8"))
    random = np.random.default_rng(7)
    killed = 0
    for _ in range(ROUNDS):
        deaths = random.integers(1, touches // SHARDS, SHARDS).tolist()
        running = [start(parts, f"{part}/{SHARDS}", death) for part, death in enumerate(deaths, start=1)]
        for process in running:
            process.join(120)
            assert process.exitcode in (0, -signal.SIGKILL)
            killed += process.exitcode != 0
    assert killed >= SHARDS  # else nothing was tried
    for part in (2, 4, 1):  # and node 3 is lost: its part is begun on another, when all others have ended
        process = start(parts, f"{part}/{SHARDS}")
        process.join(120)
        assert process.exitcode == 0
    last = start(parts, f"3/{SHARDS}")
    last.join(120)
    assert last.exitcode == 0

    right, found = contents(whole), contents(parts)
    assert sorted(found) == sorted(right)
    assert [name for name in right if found[name] != right[name]] == []
    opened = Store.open(parts)
    assert isinstance(opened.entries, ListedEntries)  # of this very listing, whoever wrote it last
    assert opened.entries == Store.open(whole).entries
    assert len(opened) == SCANS - 1
    assert list(opened.failed) == ["s05"]
    assert verify(opened) == []
