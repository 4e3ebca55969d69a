"""What it costs that every file is read in a worker process: `index` of many small files, before and after.

    python benchmarks/index_isolation.py --before ../older/checkout [--files 2000] [--runs 3]

Runs take turns, so that a busy machine slows both. Time is the processors' time of the whole family of processes, as
well as that on the clock; memory is the peak of the sum of what each process alone holds and its share of the rest
(PSS), looked at every 50 ms. Prints the medians and their ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

__all__ = ["main"]

_LOOK_S = 0.05


def write_files(folder: Path, count: int) -> None:
    """Write small scans of four formats, some of each patient."""
    import nibabel as nib
    import SimpleITK as sitk  # noqa: N813

    random = np.random.default_rng(0)
    for number in range(count):
        values = random.integers(-1000, 1000, (12, 16, 16)).astype(np.int16)
        place = folder / f"p{number // 4:04d}"
        place.mkdir(parents=True, exist_ok=True)
        if number % 2:
            nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), np.diag([1, 1, 2, 1.0])), place / f"s{number}.nii.gz")
        else:
            suffix = ".nrrd" if number % 4 else ".mha"
            sitk.WriteImage(sitk.GetImageFromArray(values), str(place / f"s{number}{suffix}"))


def family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    for task in Path("/proc", str(pid), "task").glob("*/children"):
        try:
            for child in task.read_text(encoding="ascii").split():
                found += family(int(child))
        except OSError:
            continue
    return found


def pss_mb(pid: int) -> float:
    """Return the memory of a process: what it alone holds, and its share of what others hold too."""
    try:
        for line in Path("/proc", str(pid), "smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def measured(python: Path, checkout: Path, folder: Path) -> tuple[float, float, float]:
    """Return processors' seconds, seconds on the clock and peak MB of one `index`."""
    with tempfile.TemporaryDirectory() as scratch:
        words = [python, "-m", "pipelines.cli", "index", folder, "--out", Path(scratch) / "m.parquet", "--quiet"]
        before, begin, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0.0
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(words, cwd=checkout, env=environment, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                peak = max(peak, sum(map(pss_mb, family(process.pid))))
                time.sleep(_LOOK_S)
        if process.returncode:
            sys.exit(f"{checkout}: index ended with {process.returncode}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.monotonic() - begin, peak


def main() -> None:
    """Measure this checkout, and another beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout with a .venv of its own")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    checkouts = {"after": (Path(sys.executable), here)}
    if given.before:
        other = given.before.resolve()
        checkouts = {"before": (other / ".venv/bin/python", other), **checkouts}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "scans"
        write_files(folder, given.files)
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in checkouts}
        for _ in range(given.runs):
            for name, (python, checkout) in checkouts.items():
                found[name].append(measured(python, checkout, folder))
                print(f"{name}: " + "  ".join(f"{value:.1f}" for value in found[name][-1]), flush=True)
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    for name, (spent, clock, peak) in medians.items():
        print(f"{name:>7}: {spent:6.1f} s of processors  {clock:6.1f} s on the clock  {peak:6.0f} MB")
    if "before" in medians:
        ratios = [new / old for new, old in zip(medians["after"], medians["before"], strict=True)]
        print("  ratio: {:6.2f}                  {:6.2f}                 {:6.2f}".format(*ratios))


if __name__ == "__main__":
    main()
