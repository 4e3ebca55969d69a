"""What `medssl index` and `medssl cache` cost: many small files for what every scan costs, one CT for its voxels.

Each step runs in a process of its own, whose processor time holds that of its workers; calls of the file system are
those of that process, not of the workers.

    python benchmarks/scale_steps.py 300 1000 3000
    python benchmarks/scale_steps.py --edge 320
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from processor_time import processor_seconds
from store_listing import counted_calls, peak_kb

from medssl.formats.nifti import write_nifti
from medssl.workflows.cache import cache
from medssl.workflows.index import index

STEPS = ("index", "index, nothing to do", "cache", "cache, nothing to do")


def measure(step: str, folder: Path) -> None:
    """Print seconds of processor, of the clock, peak memory beyond the start in MB, and calls, of one step."""
    calls = counted_calls()
    before, start, clock = peak_kb(), processor_seconds(), time.perf_counter()
    if step.startswith("index"):
        index(folder / "scans", out=folder / "manifest.parquet", overrides=["workers=1"])
    else:
        cache(folder / "manifest.parquet", out=folder / "store", overrides=["workers=1"])
    told = {"step": step, "s": round(processor_seconds() - start, 2), "clock": round(time.perf_counter() - clock, 1)}
    told |= {"MB": round((peak_kb() - before) / 1024), "calls": calls[0]}
    print(json.dumps(told), flush=True)


def main() -> None:
    """Measure, and print one line of JSON a step and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int)
    parser.add_argument("--edge", type=int, help="one CT of so many voxels along each axis")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FOLDER"), help="one step on files that are there")
    given = parser.parse_args()
    if given.step:
        measure(given.step[0], Path(given.step[1]))
        return
    for count, edge in [*((count, 10) for count in given.counts), *([(1, given.edge)] if given.edge else [])]:
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "scans").mkdir()
            for number in range(count):
                random = np.random.default_rng(number)
                # Smooth as anatomy is, with the noise of a CT: what packs it decides its size and time.
                field = np.add.outer(np.add.outer(*2 * [np.sin(np.arange(edge) / 9)]), np.sin(np.arange(edge) / 7))
                values = (300 * field + random.normal(0, 15, field.shape)).astype(np.int16)
                write_nifti(Path(name) / "scans" / f"s{number:06d}.nii.gz", values, np.diag([0.8, 0.8, 1.0, 1.0]))
            size = sum(path.stat().st_size for path in (Path(name) / "scans").iterdir())
            print(json.dumps({"scans": count, "edge": edge, "MB": round(size / 1e6, 1)}), flush=True)
            for step in STEPS:
                words = [sys.executable, __file__, "--step", step, name]
                subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
            stored = sum(path.stat().st_size for path in (Path(name) / "store").rglob("*") if path.is_file())
            print(json.dumps({"store, MB": round(stored / 1e6, 1)}), flush=True)


if __name__ == "__main__":
    main()
