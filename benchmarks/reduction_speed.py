"""What fingerprints cost besides reading: the whole pass over files, as a ratio to reading and decompressing them.

Both run in this process, in turn, on files that were read before; processor time, medians.

    python benchmarks/reduction_speed.py                    # a made-up CT of 512 x 512 x 160
    MEDSSL_DATA=/data python benchmarks/reduction_speed.py  # and the scans of the data folder
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from medssl.formats.nifti import write_nifti
from medssl.manifest.describe import content_hash, file_hash
from medssl.reduction.fingerprint import Fingerprint, Target, fingerprint, read_target

MOST = 24  # files of a folder


def made_up_ct(path: Path, slices: int) -> None:
    """Write a torso of 512 x 512 with smooth organs and 12 HU of noise, in air."""
    generator = np.random.default_rng(0)
    coarse = generator.normal(0, 60, (max(4, slices // 8), 32, 32))
    z, y, x = slices / len(coarse), 16, 16
    values = ndimage.zoom(coarse, (z, y, x), order=1, mode="nearest", grid_mode=True)[:slices].astype(np.float32)
    axis = np.linspace(-1, 1, 512, dtype=np.float32)
    body = (axis[:, None] / 0.7) ** 2 + (axis[None] / 0.85) ** 2 < 1
    values += generator.normal(0, 12, values.shape).astype(np.float32)
    values[:, ~body] = -1000
    write_nifti(path, np.rint(values).astype(np.int16), np.diag([0.7, 0.7, 2.0, 1.0]))


def median_s(work: Callable[[Target], object], targets: list[Target], rounds: int) -> float:
    """Return the median over rounds of the processor time of all targets together."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for target in targets:
            work(target)
        times.append(time.process_time() - start)
    return statistics.median(times)


def measure(name: str, targets: list[Target], rounds: int) -> None:
    """Print one row."""
    failed = [one for one in map(fingerprint, targets) if not isinstance(one, Fingerprint)]
    assert not failed, failed  # and the files are in the page cache now
    scans = {target.id: read_target(target) for target in targets[:MOST]}
    reading = median_s(read_target, targets, rounds)
    whole = median_s(fingerprint, targets, rounds)
    sums = median_s(lambda one: file_hash(one.files), targets, rounds)
    content = median_s(lambda one: content_hash(scans[one.id].values, scans[one.id].header.affine), targets, rounds)
    voxels = sum(scan.values.size for scan in scans.values()) / len(scans) / 1e6
    each = 1e3 / len(targets)
    numbers = f"{reading * each:.1f} | {whole * each:.1f} | {whole / reading:.2f} | {(sums + content) * each:.1f}"
    rest = (whole - reading - sums - content) * each
    print(f"| {name} | {len(targets)} | {voxels:.2f} | {numbers} | {rest:.1f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=160, help="of the made-up CT (default 160)")
    chosen = parser.parse_args()
    columns = (
        "scans",
        "files",
        "million voxels",
        "reading, ms",
        "whole pass, ms",
        "pass / reading",
        "SHA-256, ms",
        "the rest, ms",
    )
    print("| " + " | ".join(columns) + " |")
    print("|---" + "|--:" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ct.nii.gz"
        made_up_ct(path, chosen.slices)
        measure("made-up CT, .nii.gz", [Target(id="ct", path=str(path))], chosen.rounds)
    if root := os.environ.get("MEDSSL_DATA"):
        for name, pattern in (
            ("CT at 2.5 mm", "ct/*.nii.gz"),
            ("cardiac cine MRI", "acdc/*/*_frame??.nii.gz"),
            ("brain FLAIR", "lgg_flair/images/*.nii.gz"),
            ("hippocampus crops", "hippocampus/imagesTr/hippocampus_*.nii.gz"),
        ):
            files = sorted(Path(root).glob(pattern))[:MOST]
            if files:
                measure(name, [Target(id=file.name, path=str(file)) for file in files], chosen.rounds)


if __name__ == "__main__":
    main()
