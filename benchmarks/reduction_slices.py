"""Copies among exported slices: ``medssl reduce`` beside imagededup and fastdup, at equal precision.

Axial slices of real scans are written as 8-bit PNG, some of each scan; slices of every sixth scan are written again in
ten ways. Each tool takes the one folder, in a process of its own. A pair of files of one slice is right, one of two
patients is wrong, and one of two slices of a patient counts as neither. A copy is found where a pair joins it with its
original or with another copy of that. Each tool is told at its own limit, and at the limit of its score or distance
where most is found at the wanted precision. The other tools need an interpreter of their own, with imagededup (its
hashes alone: the network asks for weights) or fastdup in it:

    MEDSSL_DATA=/data python benchmarks/reduction_slices.py --peers PYTHON     # minutes of a core
    MEDSSL_DATA=/data python benchmarks/reduction_slices.py --tools medssl
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SEED = 0
EVERY = 6  # scans, of which one's slices are written again
PRECISION = 0.99
HASHES = ("PHash", "DHash", "AHash", "WHash")
FARTHEST = 16  # of 64 bits, up to which pairs of a hash are asked for
OWN = {"medssl": "verdict", **dict.fromkeys(HASHES, "distance 10"), "fastdup": "similarity 0.9"}
NEIGHBOURS = 16  # of an image that fastdup is asked for: more than there are copies of one
Told = list[tuple[str, str, float, bool]]  # two files, how alike (more is more), whether the tool itself calls them so


# --- the tools; the others' code runs where medssl is not installed -------------------------------------------------


def by_medssl(folder: Path, work: Path) -> Told:
    """Return the pairs that ``medssl reduce`` looks at."""
    from medssl.manifest.build import build_manifest
    from medssl.manifest.schema import write_manifest
    from medssl.workflows.reduce import reduce

    manifest, _ = build_manifest(folder, depth="header", workers=1, pictures="single")
    write_manifest(manifest, work / "slices.parquet")
    found = reduce(work / "slices.parquet", out=work / "kept.parquet", workers=1).found
    assert found is not None
    names = {row["id"]: Path(row["path"]).name for row in manifest.rows()}
    return [
        (names[m.first], names[m.second], m.verdict.agreement.score, m.verdict.level.is_copy) for m in found.matches
    ]


def by_hash(name: str, folder: Path) -> Told:
    """Return the pairs of one of imagededup's hashes."""
    from imagededup import methods  # type: ignore[import-not-found]

    found = getattr(methods, name)(verbose=False).find_duplicates(
        image_dir=str(folder), max_distance_threshold=FARTHEST, scores=True, num_enc_workers=0, num_dist_workers=0
    )
    pairs = {(*sorted((one, two)), apart) for one, others in found.items() for two, apart in others}
    return [(one, two, -float(apart), apart <= 10) for one, two, apart in sorted(pairs)]


def by_fastdup(folder: Path, work: Path) -> Told:
    """Return the pairs of fastdup, by the network that it comes with."""
    import fastdup  # type: ignore[import-not-found]

    engine = fastdup.create(work_dir=str(work), input_dir=str(folder))
    engine.run(threshold=0.5, nearest_neighbors_k=NEIGHBOURS, num_threads=1, overwrite=True, verbose=False)
    rows, files = engine.similarity(data=False), engine.annotations()
    names = {number: Path(name).name for number, name in zip(files["fd_index"], files["filename"], strict=True)}
    pairs: dict[tuple[str, str], float] = {}
    for one, two, alike in zip(rows["from"], rows["to"], rows["distance"], strict=True):
        low, high = sorted((names[one], names[two]))
        pairs[low, high] = max(float(alike), pairs.get((low, high), 0.0))
    return [(one, two, alike, alike >= 0.9) for (one, two), alike in sorted(pairs.items())]


def run_tool(tool: str, folder: Path, told: Path) -> None:
    """Run one tool here and write its pairs and what they cost."""
    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(sys.stderr):
        begin = time.perf_counter()
        if tool in HASHES:
            pairs = by_hash(tool, folder)
        else:
            pairs = by_medssl(folder, Path(work)) if tool == "medssl" else by_fastdup(folder, Path(work))
        wall = time.perf_counter() - begin
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    spent = sum(one.ru_utime + one.ru_stime for one in used)
    if tool == "medssl":  # its workers wait for more work; an interpreter of the others may lack psutil
        from processor_time import processor_seconds

        spent = processor_seconds()
    cost = {
        "processor": spent,
        "wall": wall,
        "peak_mb": max(one.ru_maxrss for one in used) / 1024,
    }
    told.write_text(json.dumps({"pairs": pairs, **cost}))


# --- the slices -----------------------------------------------------------------------------------------------------


def ways() -> dict[str, Callable[[Any, Any], Any]]:
    """Return how slices, float64 (y, x) from 0 to 255, are written again: (slice, generator) -> slice."""
    import numpy as np
    from scipy import ndimage

    def shaded(image: Any, generator: Any) -> Any:
        rough = ndimage.zoom(generator.normal(size=(3, 3)), [n / 3 for n in image.shape], order=3, mode="nearest")
        rough = np.resize(rough, image.shape) if rough.shape != image.shape else rough
        return image * (1 + 0.3 * rough / np.abs(rough).max())

    def cut(image: Any, generator: Any) -> Any:
        parts = []
        for length in image.shape:
            begin = int(generator.integers(0, round(0.1 * length) + 1))
            parts.append(slice(begin, begin + length - round(0.1 * length)))
        return image[tuple(parts)]

    return {
        "resized": lambda image, generator: ndimage.zoom(image, 0.75, order=1),
        "enlarged": lambda image, generator: ndimage.zoom(image, 1.5, order=1),
        "windowed": lambda image, generator: (image - 50) * 255 / 150,
        "noise": lambda image, generator: image + generator.normal(0, 0.03 * 255, image.shape),
        "blurred": lambda image, generator: ndimage.gaussian_filter(image, 0.8),
        "shaded": shaded,
        "cut": cut,
        "padded": lambda image, generator: np.pad(image, [(n // 10, n // 20) for n in image.shape]),
        "mirrored": lambda image, generator: image[:, ::-1],
        "negated": lambda image, generator: 255 - image,
    }


def export(data: Path, folder: Path, most: int, slices: int) -> dict[str, tuple[str, str]]:
    """Write the slices and return file -> (patient, slice)."""
    import numpy as np
    from PIL import Image
    from reduction_scans import ONE_BODY, originals

    from medssl import geometry
    from medssl.formats.reading import read

    def write(name: str, image: Any) -> None:
        Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8)).save(folder / name)

    joined = {name: pair[0] for pair in ONE_BODY for name in pair}
    known: dict[str, tuple[str, str]] = {}
    scans = [one for one in originals(data, folder.parent, 0) if one.path.is_file()]
    for kind in sorted({one.kind for one in scans}):
        of = [one for one in scans if one.kind == kind]
        chosen = np.random.default_rng(SEED).permutation(len(of))[:most]
        for number, place in enumerate(sorted(chosen.tolist())):
            one = of[place]
            scan = read(one.path)
            values, _ = geometry.to_canonical(scan.values, scan.header.affine)
            low, high = np.percentile(values, (0.5, 99.5))
            for index in np.unique(np.linspace(0.35, 0.65, slices) * len(values)).astype(int).tolist():
                image = (np.nan_to_num(values[index]).astype(np.float64) - low) / max(high - low, 1e-6) * 255
                image = np.clip(image, 0, 255)
                name = f"{one.id}_{index:03d}"
                patient = joined.get(one.patient, one.patient)
                write(f"{name}.png", image)
                known[f"{name}.png"] = patient, name
                if number % EVERY:
                    continue
                for way, (what, made) in enumerate(ways().items()):
                    generator = np.random.default_rng([SEED, way, *name.encode()])
                    write(f"{name}_{what}.png", made(image, generator))
                    known[f"{name}_{what}.png"] = patient, name
    return known


# --- the table ------------------------------------------------------------------------------------------------------


def found_at(pairs: Told, known: dict[str, tuple[str, str]]) -> tuple[set[str], int, int]:
    """Return the altered copies that a right pair joins, and how many pairs are right and wrong."""
    joined, right, wrong = set[str](), 0, 0
    for one, two, _, _ in pairs:
        same = known[one][1] == known[two][1]
        right, wrong = right + same, wrong + (known[one][0] != known[two][0])
        joined |= {one, two} if same else set()
    return {name for name in joined if known[name][1] != Path(name).stem}, right, wrong


def at_precision(pairs: Told, known: dict[str, tuple[str, str]], least: float) -> tuple[float, Told] | None:
    """Return the limit that finds most with at least that precision, and its pairs; None where no limit has it."""
    best: tuple[int, float, Told] | None = None
    ordered = sorted(pairs, key=lambda pair: -pair[2])
    for limit in sorted({round(pair[2], 3) for pair in pairs}):
        kept = [pair for pair in ordered if pair[2] >= limit - 5e-4]
        found, right, wrong = found_at(kept, known)
        if right and right / (right + wrong) >= least and (best is None or len(found) > best[0]):
            best = len(found), limit, kept
    return None if best is None else best[1:]


def rows(tool: str, told: dict[str, Any], known: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of one tool."""
    pairs: Told = [tuple(pair) for pair in told["pairs"]]  # type: ignore[misc]
    copies = [name for name, (_, of) in known.items() if of != Path(name).stem]
    cost = f"{told['processor']:.0f} | {told['wall']:.0f} | {told['peak_mb']:.0f} |"
    own = [pair for pair in pairs if pair[3]]
    best = at_precision(pairs, known, PRECISION)
    for limit, kept in ((f"own: {OWN[tool]}", own), (None if best is None else f"{best[0]:g}", best and best[1])):
        if kept is None:
            yield f"| {tool} | none has precision {PRECISION} | - | - | - | {cost}"
            continue
        found, right, wrong = found_at(kept, known)
        share, precision = len(found) / len(copies), right / max(1, right + wrong)
        yield f"| {tool} | {limit} | {share:.3f} | {precision:.4f} | {wrong:,} | {cost}"


def by_way(told: dict[str, dict[str, Any]], known: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yield a table of what each tool finds of each way at the wanted precision."""
    yield f"\n| way, at precision {PRECISION} | {' | '.join(told)} |\n|---|{'--:|' * len(told)}"
    best = {tool: at_precision([tuple(p) for p in one["pairs"]], known, PRECISION) for tool, one in told.items()}  # type: ignore[misc]
    found = {tool: found_at(one[1], known)[0] if one else set[str]() for tool, one in best.items()}
    for way in ways():
        names = [name for name in known if name.endswith(f"_{way}.png")]
        shares = [f"{sum(name in found[tool] for name in names) / len(names):.3f}" for tool in told]
        yield f"| {way} | {' | '.join(shares)} |"


def main() -> None:
    """Write the slices, run each tool, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="*", choices=list(OWN), default=list(OWN))
    parser.add_argument("--peers", default=sys.executable, help="interpreter with imagededup and fastdup")
    parser.add_argument("--most", type=int, default=60, help="scans of each kind (default 60)")
    parser.add_argument("--slices", type=int, default=2, help="slices of each scan (default 2)")
    parser.add_argument("--one", nargs=3, metavar=("TOOL", "FOLDER", "TOLD"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        run_tool(chosen.one[0], Path(chosen.one[1]), Path(chosen.one[2]))
        return
    root = os.environ.get("MEDSSL_DATA")
    if not root:
        parser.error("set MEDSSL_DATA to the folder of real scans")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "slices"
        folder.mkdir()
        known = export(Path(root), folder, chosen.most, chosen.slices)
        patients = len({patient for patient, _ in known.values()})
        altered = sum(of != Path(name).stem for name, (_, of) in known.items())
        print(f"{len(known)} slices of {patients} patients, {altered} of them altered copies, seed {SEED}.\n")
        print("| tool | limit | copies found | precision | wrong pairs | processor, s | wall, s | memory, MB |")
        print("|---|---|--:|--:|--:|--:|--:|--:|", flush=True)
        told: dict[str, dict[str, Any]] = {}
        for tool in chosen.tools:
            answer = Path(scratch) / f"{tool}.json"
            python = sys.executable if tool == "medssl" else chosen.peers
            run = [python, __file__, "--one", tool, str(folder), str(answer)]
            done = subprocess.run(run, capture_output=True, text=True, check=False)
            if done.returncode or not answer.is_file():
                print(f"| {tool} | did not run: {' '.join(done.stderr.split()[-30:])} |", flush=True)
                continue
            told[tool] = json.loads(answer.read_text())
            print(*rows(tool, told[tool], known), sep="\n", flush=True)
        print(*by_way(told, known), sep="\n")


if __name__ == "__main__":
    main()
