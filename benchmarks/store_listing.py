"""What `medssl cache` and `Store.open` cost where everything is stored already: time, memory, calls of the file system.

The stores are synthetic: one scan is stored, and its record written again under the names of all others, with empty
files in place of voxels. Each step runs in a process of its own.

    python benchmarks/store_listing.py 1000 10000 100000
    python benchmarks/store_listing.py --listing 1000000     # a listing alone: no records, no files
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medssl import writing
from medssl.domains.choosing import choose_items
from medssl.domains.data_settings import DataSettings
from medssl.formats.nifti import write_nifti
from medssl.manifest.schema import Manifest, manifest_of_rows, read_manifest, write_manifest
from medssl.step_loader import patient_numbers
from medssl.store.build import build
from medssl.store.entry import Entry
from medssl.store.index import read_record, record_path, stem_of, write_index, write_record
from medssl.store.options import StoreSettings
from medssl.store.plan import make_plan
from medssl.store.read import Store
from medssl.workflows.cache import cache

STEPS = {"shard 1/100, nothing to do": ["shard=1/100"], "1/1, nothing to do": []}
OPENED = ("Store.open", "Store.open, what is trained on, 1000 entries")


def synthetic(folder: Path, count: int) -> Manifest:
    """Fill a store with records of as many scans, and return their manifest."""
    scan = folder / "scan.nii.gz"
    write_nifti(scan, np.arange(720, dtype=np.int16).reshape(8, 9, 10), np.diag([2.0, 2, 3, 1]))
    rows = [
        {
            "id": f"scan{i:07d}", "path": str(scan), "modality": "CT", "units": "HU", "shape": [8, 9, 10],
            "spacing_mm": [3.0, 2.0, 2.0], "affine": np.diag([2.0, 2, 3, 1]).ravel().tolist(),
            "patient": f"p{i:07d}", "split": "train", "file_hash": f"{i:064x}",
        }
        for i in range(count)
    ]  # fmt: skip
    manifest = manifest_of_rows(rows)
    plan = make_plan(manifest, StoreSettings())
    store = folder / "store"
    build(store, replace(plan, jobs=plan.jobs[:1]))
    first = plan.jobs[0]
    record = read_record(record_path(store, stem_of(first.id, first.key)))
    honest, writing.sync = writing.sync, lambda path: None  # 10^5 records wait minutes for the disk
    for job in plan.jobs[1:]:
        old, new = stem_of(first.id, first.key), stem_of(job.id, job.key)
        entry = replace(
            record.entry, id=job.id, patient=job.patient, split=job.split, file=record.entry.file.replace(old, new)
        )
        checksums = {name.replace(old, new): value for name, value in record.checksums.items()}
        for name in checksums:
            (store / name).touch()
        write_record(store, new, replace(record, entry=entry, key=job.key, checksums=checksums))
    writing.sync = honest
    return manifest


class Many(Sequence[Entry]):
    """An entry again and again under other names, each made where it is asked for."""

    def __init__(self, entry: Entry, count: int) -> None:
        self._entry, self._count = entry, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        if place >= self._count:
            raise IndexError
        name = f"scan{place:07d}"
        return replace(
            self._entry, id=name, patient=f"p{place:07d}", file=self._entry.file.replace("scan0000000", name)
        )


class Same(Mapping[str, Any]):
    """The same statistics for all of them."""

    def __init__(self, entries: Many, known: Any) -> None:
        self._entries, self._known = entries, known

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return (f"scan{place:07d}" for place in range(len(self)))

    def __getitem__(self, scan: str) -> Any:
        return self._known


def listing_alone(folder: Path, count: int) -> None:
    """Write the listing of as many scans, and nothing else."""
    synthetic(folder, 1)
    store = folder / "store"
    (path,) = (store / "scans").glob("*.json")
    record = read_record(path)
    entries = Many(record.entry, count)
    before, start = peak_kb(), time.process_time()
    write_index(store, entries, settings={}, classes={}, statistics=Same(entries, record.statistics))
    told = {"step": "writing the listing", "s": round(time.process_time() - start, 1)}
    print(json.dumps(told | {"MB": round((peak_kb() - before) / 1024)}), flush=True)


def peak_kb() -> int:
    """Return the most memory that this process had; that of its parent does not count. Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


def counted_calls() -> list[int]:
    """Return a list of one number, which grows from now on with each stat, open and listing of a folder."""
    calls = [0]
    honest = os.stat

    def counted(*args: Any, **kwargs: Any) -> os.stat_result:
        calls[0] += 1
        return honest(*args, **kwargs)

    os.stat = counted  # type: ignore[assignment]
    sys.addaudithook(lambda event, _: calls.__setitem__(0, calls[0] + (event in ("open", "os.scandir"))))
    return calls


def measure(step: str, folder: Path) -> None:
    """Print seconds of processor, peak memory beyond the start in MB, and calls of the file system, of one step."""
    manifest = None if step in OPENED else read_manifest(folder / "manifest.parquet")
    calls = counted_calls()
    before = peak_kb()
    start = time.process_time()
    if manifest is None:
        store = Store.open(folder / "store")
        if step != OPENED[0]:
            chosen = choose_items(store, DataSettings(), seed=0)
            patient_numbers(chosen.train)
            for place in np.linspace(0, len(chosen.train) - 1, 1000).astype(int).tolist():
                assert chosen.train.entries[place].id
    else:
        cache(manifest, out=folder / "store", overrides=["workers=1", *STEPS[step]])
    seconds = time.process_time() - start
    grown = (peak_kb() - before) / 1024
    print(json.dumps({"step": step, "s": round(seconds, 2), "MB": round(grown), "calls": calls[0]}), flush=True)


def main() -> None:
    """Measure, and print one line of JSON a step and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int)
    parser.add_argument("--listing", nargs="+", type=int, default=[], metavar="N", help="listings alone")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FOLDER"), help="one step on a store that is there")
    given = parser.parse_args()
    if given.step:
        measure(given.step[0], Path(given.step[1]))
    for count in given.listing:
        with tempfile.TemporaryDirectory() as name:
            listing_alone(Path(name), count)
            sizes = {path.name: round(path.stat().st_size / 1e6, 1) for path in (Path(name) / "store").glob("store.*")}
            print(json.dumps({"scans": count, "MB": sizes}), flush=True)
            for step in OPENED:
                subprocess.run([sys.executable, __file__, "--step", step, name], check=True)
    for count in given.counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            manifest = synthetic(folder, count)
            write_manifest(manifest, folder / "manifest.parquet")
            cache(folder / "manifest.parquet", out=folder / "store", overrides=["workers=1"])  # makes the listing
            size = (folder / "store" / "store.json").stat().st_size
            print(json.dumps({"scans": count, "store.json, MB": round(size / 1e6, 1)}), flush=True)
            for step in (*STEPS, *OPENED):
                subprocess.run([sys.executable, __file__, "--step", step, name], check=True)


if __name__ == "__main__":
    main()
