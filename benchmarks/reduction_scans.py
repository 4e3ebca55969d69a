"""The scans of the reduction benchmarks: every real one there is, phantoms, and altered copies, halved by patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from reduction_changes import CHANGES, Change, Image, applies, write_change

from medssl import geometry
from medssl.formats.nifti import write_nifti
from medssl.formats.reading import read
from medssl.phantoms import phantom
from medssl.reduction.fingerprint import Target

__all__ = ["HALVES", "ONE_BODY", "SEED", "Item", "Original", "build", "one_body", "originals"]

SEED = 0
# Scans of the data folder that show one acquisition: neither a copy that was made, nor strangers.
ONE_BODY = (
    ("kits_00072_slab", "ct_dicom_kits_00072"),
    ("totalseg_aorta_crop", "totalseg_pulm_crop"),  # they overlap; the folder's notes suspected it
    ("totalseg_example", "ct_labelled_example_ct"),  # one scan at two voxel sizes, score 0.97
)
HALVES = ("choose", "report")


@dataclass(frozen=True)
class Original:
    """A scan as it came: where it lies, whose it is, and of which kind."""

    id: str
    patient: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Item:
    """A file of the benchmark: an original, or a changed copy of it."""

    id: str
    original: Original
    change: Change | None
    path: Path
    half: str

    @property
    def target(self) -> Target:
        """What the fingerprint pass takes."""
        paths = tuple(str(p) for p in sorted(self.path.glob("*.dcm"))) if self.path.is_dir() else ()
        return Target(id=self.id, path=str(self.path), paths=paths)


def originals(data: Path | None, work: Path, phantoms: int) -> list[Original]:
    """Return every scan there is: those of the data folder, and phantoms, written below ``work``."""
    found = []
    if data is not None:
        for path in sorted(data.glob("ct/*.nii.gz")):
            found.append(Original(path.name[:-7], path.name[:-7], "ct", path))
        for path in sorted(data.glob("ct_labelled/*_ct.nii.gz")):
            found.append(Original("ct_labelled_" + path.name[:-7], "ct_labelled_" + path.name[:-7], "ct", path))
        for path in sorted(p for p in data.glob("ct_dicom/*") if p.is_dir()):
            found.append(Original("ct_dicom_" + path.name, "ct_dicom_" + path.name, "ct", path))
        for path in sorted(data.glob("hippocampus/imagesTr/hippocampus_*.nii.gz")):
            found.append(Original(path.name[:-7], path.name[:-7], "hippocampus", path))
        for path in sorted(data.glob("acdc/patient*/*_frame??.nii.gz")):
            found.append(Original(path.name[:-7], path.parent.name, "acdc", path))
        for path in sorted(data.glob("lgg_flair/images/*.nii.gz")):
            found.append(Original(path.name[:-7], path.name[:12], "lgg", path))
    folder = work / "phantoms"
    folder.mkdir(parents=True, exist_ok=True)
    for subject in range(phantoms):
        for modality in ("CT", "MR"):  # one anatomy, two sequences: a hard negative
            path = folder / f"phantom{subject:03d}_{modality}.nii.gz"
            if not path.exists():
                made = phantom(subject, modality=modality, shape=(72, 88, 80), spacing_mm=(4.0, 3.5, 3.5), seed=SEED)
                write_nifti(path, made.values, made.affine)
            found.append(Original(path.name[:-7], f"phantom{subject:03d}", "phantom", path))
    return found


def halves(scans: Iterable[Original]) -> dict[str, str]:
    """Deal patients to the halves: those of each kind in turn, in an order drawn from the seed."""
    generator = np.random.default_rng(SEED)
    joined = {name: pair[0] for pair in ONE_BODY for name in pair}
    dealt: dict[str, str] = {}
    kinds = defaultdict(set)
    for one in scans:
        kinds[one.kind].add(joined.get(one.patient, one.patient))
    for kind in sorted(kinds):
        for place, patient in enumerate(generator.permutation(sorted(kinds[kind]))):
            dealt[str(patient)] = HALVES[place % 2]
    return {one.patient: dealt[joined.get(one.patient, one.patient)] for one in scans}


def build(
    scans: list[Original], work: Path, each: dict[str, int], wanted: tuple[str, ...], after: dict[str, int]
) -> list[Item]:
    """Write the changed copies of ``each`` patients of a kind in each half, after the first so many of them."""
    half_of = halves(scans)
    items = []
    taken: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for one in scans:
        half = half_of[one.patient]
        if half not in wanted:
            continue
        items.append(Item(one.id, one, None, one.path, half))
        chosen, left_out = taken[half, one.kind], after.get(one.kind, 0)
        if one.patient not in chosen and len(chosen) >= left_out + each.get(one.kind, 10**9):
            continue
        chosen.setdefault(one.patient, len(chosen) >= left_out)
        if not chosen[one.patient]:
            continue
        items += copies(one, half, work / "copies" / one.id)
    return items


def copies(one: Original, half: str, folder: Path) -> Iterator[Item]:
    """Write every changed copy of a scan that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    image: Image | None = None
    for number, change in enumerate(CHANGES):
        listed = folder / f"{change.key}.path"
        if not listed.exists():
            image = image or _image(one)
            # A generator of its own for each change, so that adding one leaves the others as they are.
            generator = np.random.default_rng([SEED, number, *one.id.encode()])
            place = write_change(change, image, folder / change.key, generator) if applies(change, image) else None
            listed.write_text(place.name if place else "")
        name = listed.read_text()
        if name:
            yield Item(f"{one.id}/{change.key}", one, change, folder / name, half)


def _image(one: Original) -> Image:
    scan = read(one.path)
    values, affine = geometry.to_canonical(scan.values, scan.header.affine)
    hounsfield = one.kind == "ct" or one.id.endswith("_CT")
    return Image(np.ascontiguousarray(values), affine, hounsfield)


def one_body(first: Item, second: Item) -> bool | None:
    """Tell whether two files show one image; None where they come from one acquisition in the data folder."""
    if first.original.id == second.original.id:
        return True
    pair = {first.original.id, second.original.id}
    return None if any(pair <= set(known) for known in ONE_BODY) else False
