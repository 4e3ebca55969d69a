"""How fast random 96^3 crops are read: the store, MONAI's PersistentDataset, and .nii.gz files read whole.

All three run in this process, in turn, several times; the table gives medians and ratios, which say more than rates on
a machine with neighbours. Files are read once before, so the page cache is warm for all.

    python benchmarks/store_reads.py            # a synthetic CT of 320^3
    MEDSSL_DATA=/data python benchmarks/store_reads.py   # and the real CTs in /data/ct
    python benchmarks/store_reads.py --channels   # cases of one and of four channels instead, read into a batch
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import PersistentDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandSpatialCropd,
    ScaleIntensityRanged,
)

from medssl.formats.nifti import read, write_nifti
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.index import write_index
from medssl.store.options import StoreSettings
from medssl.store.prepare import Job, prepare
from medssl.store.read import Store

CROP = (96, 96, 96)


@dataclass(frozen=True)
class Way:
    """One way of reading: what it is called, a function that reads one crop, and its bytes on disk."""

    name: str
    crop: Callable[[], object]
    size_bytes: int


def made_up_ct(path: Path, edge: int) -> None:
    """Write a body of soft tissue with organs and 12 HU of noise, in air."""
    generator = np.random.default_rng(0)
    axis = np.linspace(-1, 1, edge, dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    body = (y / 0.7) ** 2 + (x / 0.85) ** 2 + 0 * z < 1
    values = np.where(body, 40.0, -1000.0).astype(np.float32)
    for centre, hu in zip(generator.uniform(-0.5, 0.5, (12, 3)), generator.uniform(-120, 300, 12), strict=True):
        values[((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 0.03) & body] = hu
    values += np.where(body, 12.0, 0.0) * generator.standard_normal(values.shape, dtype=np.float32)
    write_nifti(path, np.rint(values).astype(np.int16), np.diag([1.0, 1.0, 1.0, 1.0]))


def store_of(files: list[Path], folder: Path) -> Store:
    """Write the files as a store, as ``medssl cache`` does."""
    entries = []
    for number, file in enumerate(files):
        job = Job(
            id=f"{number:02d}",
            path=str(file),
            paths=(str(file),),
            modality="CT",
            units="HU",
            patient="",
            split="",
            label_path=None,
            spacing_mm=None,
            key=f"{number:064d}",
            voxels=0,
            settings=StoreSettings(),
        )
        entries.append(prepare(folder, job).entry)
    write_index(folder, entries, settings={}, classes={})
    return Store.open(folder)


def ways(files: list[Path], folder: Path) -> list[Way]:
    """Prepare the three ways on the same scans."""
    store = store_of(files, folder / "store")
    generator = np.random.default_rng(1)

    def from_store() -> object:
        row = int(generator.integers(len(store)))
        shape = store.entries[row].shape
        origin = tuple(int(generator.integers(max(1, n - c + 1))) for n, c in zip(shape, CROP, strict=True))
        return store.window(row, (origin[0], origin[1], origin[2]), CROP)

    prepared = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS"),
            ScaleIntensityRanged("image", a_min=-1000, a_max=1000, b_min=0, b_max=1, clip=True),
            RandSpatialCropd("image", roi_size=CROP, random_size=False),
        ]
    )
    pickles = folder / "persistent"
    dataset = PersistentDataset([{"image": str(f)} for f in files], transform=prepared, cache_dir=pickles)
    for row in range(len(dataset)):
        dataset[row]  # the first epoch writes the pickles

    def from_pickle() -> object:
        return dataset[int(generator.integers(len(dataset)))]

    def from_file() -> object:
        values = read(files[int(generator.integers(len(files)))]).values
        origin = [int(generator.integers(max(1, n - c + 1))) for n, c in zip(values.shape, CROP, strict=True)]
        z, y, x = (slice(o, o + c) for o, c in zip(origin, CROP, strict=True))
        return values[z, y, x].copy()

    stored = sum((store.folder / entry.file).stat().st_size for entry in store.entries)
    return [
        Way("medssl store, int16", from_store, stored),
        Way("MONAI PersistentDataset, float32", from_pickle, sum(f.stat().st_size for f in pickles.glob("*.pt"))),
        Way(".nii.gz read whole", from_file, sum(f.stat().st_size for f in files)),
    ]


def rate(crop: Callable[[], object], seconds: float) -> float:
    """Return crops a second over at least ``seconds`` and two crops."""
    crop()
    began, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - began < seconds:
        crop()
        count += 1
    return count / (time.perf_counter() - began)


def measure(title: str, files: list[Path], folder: Path, *, rounds: int, seconds: float) -> None:
    """Measure all ways in turn, ``rounds`` times, and print the rows of the table."""
    chosen = ways(files, folder)
    rates: dict[str, list[float]] = {way.name: [] for way in chosen}
    for _ in range(rounds):
        for way in chosen:
            rates[way.name].append(rate(way.crop, seconds))
    ours = rates[chosen[0].name]
    for way in chosen:
        middle = statistics.median(rates[way.name])
        ratio = statistics.median(a / b for a, b in zip(ours, rates[way.name], strict=True))
        spread = f"{min(rates[way.name]):.3g} to {max(rates[way.name]):.3g}"
        megabytes, relative = way.size_bytes / 1e6, way.size_bytes / chosen[-1].size_bytes
        cells = (title, way.name, f"{middle:.3g} ({spread})", f"{ratio:.1f}", f"{megabytes:.1f}", f"{relative:.2f}")
        print(f"| {' | '.join(cells)} |", flush=True)


def channels(file: Path, folder: Path, *, rounds: int, seconds: float) -> None:
    """Measure windows of one and of four channels, as a loader reads them, and print a table.

    Reads of the two alternate, so that neighbours on the machine slow both alike, and processor time is counted.
    """
    scan = read(file)
    rates: dict[int, list[float]] = {1: [], 4: []}
    calls: dict[int, Callable[[], object]] = {}
    for count in rates:
        noise = np.random.default_rng(count).integers(-3, 4, (count, *scan.values.shape))
        values = np.clip(scan.values + noise, -1024, 3071).astype(np.int16)
        item = Item(id="a", values=values, channels=tuple(f"c{number}" for number in range(count)))
        store = store_from_arrays(folder / str(count), [item])
        calls[count] = _into_batch(store, np.random.default_rng(5))
    for _ in range(rounds):
        used, read_windows = dict.fromkeys(rates, 0.0), dict.fromkeys(rates, 0)
        while sum(used.values()) < 2 * seconds:
            for count, call in calls.items():
                for _ in range(4 // count):  # as many windows of one channel of either store
                    began = time.process_time()
                    call()
                    used[count] += time.process_time() - began
                    read_windows[count] += count
        for count in rates:
            rates[count].append(read_windows[count] / used[count])
    print("| channels | windows of one channel a second of processor time, median (range) | against one channel |")
    print("|---|---|---|")
    for count, own in rates.items():
        ratio = statistics.median(a / b for a, b in zip(own, rates[1], strict=True))
        print(
            f"| {count} | {statistics.median(own):.3g} ({min(own):.3g} to {max(own):.3g}) | {ratio:.2f} |", flush=True
        )


def _into_batch(store: Store, generator: np.random.Generator) -> Callable[[], object]:
    batch = np.empty((len(store.channels), *CROP), dtype=np.int16)

    def crop() -> object:
        z, y, x = (int(generator.integers(n - c + 1)) for n, c in zip(store.entries[0].shape, CROP, strict=True))
        return store.windows(0, (z, y, x), CROP, out=batch)

    return crop


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edge", type=int, default=320, help="Voxels an edge of the synthetic CT.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--channels", action="store_true", help="Compare one channel with four instead.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Per way and round.")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if chosen.channels:
        with tempfile.TemporaryDirectory() as scratch:
            made_up_ct(Path(scratch) / "ct.nii.gz", chosen.edge)
            channels(Path(scratch) / "ct.nii.gz", Path(scratch), rounds=chosen.rounds, seconds=chosen.seconds)
        return
    print("| scans | way | crops/s, median (range) | store is faster by | MB on disk | size against .nii.gz |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made_up_ct(folder / "ct.nii.gz", chosen.edge)
        measure(
            f"synthetic CT, {chosen.edge}^3",
            [folder / "ct.nii.gz"],
            folder / "a",
            rounds=chosen.rounds,
            seconds=chosen.seconds,
        )
        root = os.environ.get("MEDSSL_DATA")
        real = [f for f in sorted((Path(root) / "ct").glob("*.nii.gz")) if not f.name.startswith(".")] if root else []
        if real:
            title = f"{len(real)} real CTs, 2.5 mm"
            measure(title, real, folder / "b", rounds=chosen.rounds, seconds=chosen.seconds)


if __name__ == "__main__":
    main()
