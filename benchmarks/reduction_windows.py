"""Two windows of one CT: which pairs of 8-bit exports are proposed, and which are called copies when looked at.

Each CT is windowed in five ways, from 0 to 255. All pairs of one CT's exports, and of each with the CT itself, are
looked at, whether fingerprints propose them or not; of pairs of two CTs, those that are proposed.

    MEDSSL_DATA=/data python benchmarks/reduction_windows.py     # minutes of a core
"""

from __future__ import annotations

import argparse
import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from medssl.formats.reading import read
from medssl.formats.scan import Scan
from medssl.reduction.candidates import propose
from medssl.reduction.fingerprint import Fingerprint, fingerprint_of
from medssl.reduction.index import Index
from medssl.reduction.verify import verify

WINDOWS = {"lung": (-600, 1500), "bone": (400, 1800), "soft": (40, 400), "liver": (60, 160), "dense": (600, 1000)}
MOST = 40_000_000  # voxels of a scan
Key = tuple[str, str]  # file, window; an empty one is the CT itself


def exports(path: Path) -> dict[Key, Scan]:
    """Return a CT and its exports, by centre and width in HU."""
    one = read(path)
    if one.values.ndim != 3 or one.values.size > MOST:
        return {}
    made = {(path.name, ""): one}
    values = one.values.astype(np.float64)
    for name, (centre, width) in WINDOWS.items():
        share = np.clip((values - (centre - width / 2)) / width, 0, 1)
        made[path.name, name] = replace(one, values=np.round(share * 255).astype(np.uint8))
    return made


def printed(key: Key, scan: Scan) -> Fingerprint:
    """Return a fingerprint under the name of file and window."""
    return fingerprint_of(scan, id="|".join(key), size_bytes=1, mtime_ns=1, file_hash="|".join(key))


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="ct", help="of NIfTI files, in MEDSSL_DATA")
    folder = Path(os.environ["MEDSSL_DATA"]) / parser.parse_args().folder
    paths = [path for path in sorted(folder.glob("*.nii.gz")) if "phantom" not in path.name]
    scans = {key: scan for path in paths for key, scan in exports(path).items()}
    keys = sorted(scans)
    prints = {key: printed(key, scans[key]) for key in keys}
    index = Index(tuple(sorted(prints.values(), key=lambda one: one.id)))
    known = {"|".join(key): key for key in keys}
    proposed = {
        (known[index.ids[one.first]], known[index.ids[one.second]]): one.variant for one in propose(index).pairs
    }
    table: dict[tuple[str, str], list[int]] = {}
    for a, b in itertools.combinations(keys, 2):
        if a[0] == b[0]:
            copy = verify(prints[a], prints[b], (scans[a], scans[b])).level.is_copy
            there = (a, b) in proposed
            row = table.setdefault((a[1] or "HU", b[1]), [0, 0, 0, 0])
            for place, value in enumerate((True, there, copy, there and copy)):
                row[place] += value
    print("| pair | CTs | proposed | a copy when looked at | both |\n|---|--:|--:|--:|--:|")
    for (one, two), row in sorted(table.items()):
        print(f"| {one} and {two} | {' | '.join(map(str, row))} |")
    strangers = {pair: how for pair, how in proposed.items() if pair[0][0] != pair[1][0]}
    called = 0
    for (a, b), how in sorted(strangers.items(), key=lambda item: item[0]):
        seen = verify(prints[a], prints[b], (scans[a], scans[b]), variant=how)
        called += seen.level.is_copy
        print(f"{' '.join(a)}, {' '.join(b)}: {seen.level.value}, score {seen.agreement.score:.2f}")
    print(f"\n{len(strangers)} pairs of two files are proposed; {called} of them are called copies.")


if __name__ == "__main__":
    main()
