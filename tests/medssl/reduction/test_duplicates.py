"""From a folder of scans to its copies: planted ones of every kind are found, other patients are not."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from medssl import reduction
from medssl.formats.nifti import write_nifti
from medssl.manifest.build import build_manifest
from medssl.phantoms import phantom
from medssl.reduction import duplicates
from medssl.reduction.candidates import Candidate, Proposals, candidates, search_recall
from medssl.reduction.compare_pairs import _timed, processor_seconds
from medssl.reduction.duplicates import find_copies, pairs_of, write_pairs
from medssl.reduction.fingerprint import targets_of
from medssl.reduction.hashes import Variant, all_variants
from medssl.reduction.index import make_fingerprints, read_index
from medssl.reduction.proposed import sliced
from medssl.reduction.verify import Level

KINDS = ("copy", "turned", "eight", "flipped", "cut")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three patients; of the first a copy of each kind under the name of somebody else, and a file that is none."""
    scans = tmp_path_factory.mktemp("scans")
    for number in range(3):
        one = phantom(number, shape=(60, 64, 60), spacing_mm=(4.2, 4.5, 4.4), seed=5)
        write_nifti(scans / f"patient{number}.nii.gz", one.values, one.affine)
        if number:
            continue
        v, affine = one.values, one.affine
        shutil.copy(scans / "patient0.nii.gz", scans / "copy.nii.gz")
        mirror = np.diag([-1.0, 1, 1, 1])
        mirror[0, 3] = v.shape[2] - 1
        write_nifti(scans / "turned.nii.gz", np.ascontiguousarray(v[:, :, ::-1]).astype(np.float32), affine @ mirror)
        write_nifti(scans / "eight.nii.gz", np.clip((v + 1024) / 2000 * 255, 0, 255).astype(np.uint8), affine)
        write_nifti(scans / "flipped.nii.gz", np.ascontiguousarray(v[:, ::-1]), affine)
        write_nifti(scans / "cut.nii.gz", v[14:50], affine)
    (scans / "broken.nii.gz").write_bytes(b"no scan at all")
    return scans


@pytest.fixture(scope="module")
def found(folder, tmp_path_factory):
    rows = list(build_manifest(folder, depth="header", workers=1)[0].rows())
    targets = targets_of(rows)
    work = tmp_path_factory.mktemp("work")
    make_fingerprints(targets, work)
    index = read_index(work)
    return index, find_copies(index, {target.id: target for target in targets}), work


def test_each_kind_of_copy_is_found_at_its_level(found):
    levels = {(one.first, one.second): one.verdict.level.value for one in found[1].matches}
    with_first = {(set(pair) - {"patient0"}).pop(): level for pair, level in levels.items() if "patient0" in pair}
    expected = dict.fromkeys(("eight", "flipped", "cut"), "same image") | {"copy": "same file", "turned": "same array"}
    assert {name: with_first.get(name) for name in KINDS} == expected
    strangers = {p: level for p, level in levels.items() if p[0].startswith("patient") and p[1].startswith("patient")}
    assert set(strangers.values()) <= {"different"}


def test_every_group_is_of_one_patient_and_everything_left_out_has_a_kept_copy(found):
    groups = found[1].groups
    assert len(groups.kept) == 3
    assert set(groups.removed.values()) == {(set(groups.kept) - {"patient1", "patient2"}).pop()}
    assert sorted([*groups.kept, *groups.removed]) == sorted([*KINDS, "patient0", "patient1", "patient2"])


def test_slices_find_what_is_cut_along_z(found):
    index = found[0]
    pairs = {(index.ids[one.first], index.ids[one.second]) for one in sliced(index).candidates()}
    assert ("cut", "patient0") in pairs
    assert not {p for p in pairs if p[0].startswith("patient") and p[1].startswith("patient")}
    without = candidates(index, turned=False, parts=False)
    assert {"cut", "flipped"}.isdisjoint(index.ids[k] for one in without for k in (one.first, one.second))


def test_the_search_beyond_the_exact_one_finds_the_same_and_says_how_sure_it_is(found, monkeypatch):
    index = found[0]
    exact = candidates(index, turned=False)
    assert found[1].recall == search_recall(index) == 1.0
    monkeypatch.setattr("medssl.reduction.proposed._EXACT_UP_TO", 2)
    assert candidates(index, turned=False) == exact
    assert 0.5 < search_recall(index) <= 1.0


def test_pairs_are_written_as_fastdup_writes_them(found, tmp_path):
    write_pairs(found[1], tmp_path / "pairs.csv")
    rows = list(csv.DictReader((tmp_path / "pairs.csv").open()))
    assert list(rows[0])[:3] == ["from", "to", "distance"]
    assert len(rows) == len(found[1].matches)
    flip = next(row for row in rows if (row["from"], row["to"]) == ("flipped", "patient0"))
    assert flip["variant"] == "zyx flip y"


def test_the_names_that_people_know(folder, found, tmp_path):
    given = {"work_dir": found[2], "outfile": tmp_path / "x.json"}
    named = reduction.find_duplicates(folder, scores=True, **given)
    assert named["patient1"] == []
    assert ("copy", 1.0) in named["patient0"]
    assert set(named) == {*KINDS, "patient0", "patient1", "patient2"}
    assert {name for name, _ in named["patient0"]} == set(KINDS)
    remove = reduction.find_duplicates_to_remove(folder, **given)
    assert json.loads((tmp_path / "x.json").read_text()) == remove == sorted(found[1].groups.removed)
    assert (folder / "copy.nii.gz").exists()


def test_the_folder_of_the_package_imports_nothing_heavy():
    heavy = "('polars', 'torch', 'SimpleITK')"
    code = f"import sys, medssl.reduction.fingerprint; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def indexed(folder, images):
    """Write arrays as scans and return their index, targets by id and ids by name."""
    for name, values in images.items():
        write_nifti(folder / f"{name}.nii", np.rint(values).astype(np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    targets = targets_of(list(build_manifest(folder, depth="header", workers=1)[0].rows()))
    make_fingerprints(targets, folder / "prints")
    name = {target.id.split("/")[-1].split(".")[0]: target.id for target in targets}
    return read_index(folder / "prints"), {target.id: target for target in targets}, name


def level_of(index, by_id, pair, patients=None, **told):
    """Return what a pair of ids is told as, each scan its own patient unless said."""
    matches = find_copies(index, by_id, patients=patients or {each: each for each in by_id}, **told).matches
    return next(m.verdict.level for m in matches if {m.first, m.second} == set(pair))


def test_two_kernels_that_the_index_takes_for_two_patients_are_related_and_an_export_is_a_copy(tmp_path):
    generator = np.random.default_rng(2)
    soft = ndimage.gaussian_filter(generator.normal(size=(32,) * 3), 1.5)
    soft = (soft / soft.std() * 200).astype(np.float32)
    sharp = 2.2 * soft - 1.2 * ndimage.gaussian_filter(soft, 1.0) + generator.normal(0, 5, soft.shape)
    images = {"soft": soft, "sharp": sharp, "export": np.clip(soft / 5 + 128, 0, 255)}
    index, by_id, name = indexed(tmp_path, images)
    said = {name["soft"]: "B30f", name["sharp"]: "B70f", name["export"]: "B31f"}
    kernels, export = (name["soft"], name["sharp"]), (name["soft"], name["export"])
    assert level_of(index, by_id, kernels, kernels={}) is Level.SAME_IMAGE  # as a blurred copy: nothing says otherwise
    assert level_of(index, by_id, kernels, kernels=said) is Level.RELATED
    assert level_of(index, by_id, export, kernels=said) is Level.SAME_IMAGE


@pytest.mark.parametrize("names", [("T1", "T1ce"), ("T1w", "T2w"), ("", "")])
def test_contrasts_of_one_case_that_lie_on_each_other_are_no_copies(tmp_path, names):
    generator = np.random.default_rng(3)
    plain = 500 + 120 * ndimage.gaussian_filter(generator.normal(size=(32,) * 3), 1.2) * 5
    lesion = np.zeros(plain.shape, dtype=bool)
    lesion[10:16, 12:18, 14:20] = True
    images = {"plain": plain, "enhanced": np.where(lesion, plain + 300, plain) + generator.normal(0, 4, plain.shape)}
    index, by_id, name = indexed(tmp_path, images)
    pair = name["plain"], name["enhanced"]
    told = level_of(index, by_id, pair, dict.fromkeys(pair, "p"), channels=dict(zip(pair, names, strict=True)))
    # Where nobody names the contrasts, they agree as two phases do.
    assert told is (Level.SAME_PATIENT if all(names) else Level.RELATED)


def test_copies_of_copies_meet_the_best_one_though_nothing_proposes_them(tmp_path, monkeypatch):
    """Of 200 copies of one scan eleven were kept: points that so many scans share tell nothing."""
    generator = np.random.default_rng(4)
    image = ndimage.gaussian_filter(generator.normal(size=(32,) * 3), 1.5) * 2000
    images = {f"copy{n}": image + generator.normal(0, 3, image.shape) for n in range(6)}
    images |= {f"other{n}": ndimage.gaussian_filter(generator.normal(size=(32,) * 3), 1.5) * 2000 for n in range(2)}
    index, by_id, name = indexed(tmp_path, images)
    place = {one: number for number, one in enumerate(index.ids)}
    ends = [(0, 1), (1, 2), (3, 4), (4, 5)]  # two crowds of three; of each two pairs are proposed
    chain = [
        Candidate(first=place[name[f"copy{a}"]], second=place[name[f"copy{b}"]], distance=0.01, how="field")
        for a, b in ends
    ]
    honest = duplicates.propose

    def propose(some, **how):
        whole = len(some) == len(index)
        return Proposals(pairs=tuple(chain), unlike=0, crowded=9) if whole else honest(some, **how)

    monkeypatch.setattr(duplicates, "propose", propose)
    found = find_copies(index, by_id)
    assert len(found.groups.kept) == 4  # one of each crowd
    assert found.crowded == 9
    monkeypatch.setattr(duplicates, "MANY_ALIKE", 3)
    found = find_copies(index, by_id)
    assert len(found.groups.kept) == 3
    assert set(found.groups.removed) < {name[f"copy{n}"] for n in range(6)}
    assert len({(one.first, one.second) for one in found.matches}) == len(found.matches)


def test_a_cut_copy_goes_though_the_scan_that_stands_for_both_is_turned(tmp_path, monkeypatch):
    """The whole scan gave way to its mirrored copy, and its cut copy was kept as "no copy of any other"."""
    generator = np.random.default_rng(5)
    image = ndimage.gaussian_filter(generator.normal(size=(32, 36, 34)), 1.5) * 2000
    images = {"whole": image, "mirrored": image[:, :, ::-1].copy(), "cut": image[4:30, 3:33].copy()}
    index, by_id, name = indexed(tmp_path, images)
    place = {one: number for number, one in enumerate(index.ids)}
    turned = Variant(flips=(False, False, True))

    def proposed(one, other, variant):
        low, high = sorted((place[name[one]], place[name[other]]))
        return Candidate(first=low, second=high, distance=0.01, how="field", variant=variant)

    pairs = (proposed("whole", "mirrored", turned), proposed("whole", "cut", Variant()))
    monkeypatch.setattr(duplicates, "propose", lambda *_, **__: Proposals(pairs=pairs, unlike=0, crowded=0))
    worth = {name[key]: value for key, value in {"mirrored": 3.0, "whole": 2.0, "cut": 1.0}.items()}
    found = find_copies(index, by_id, worth=worth)
    assert list(found.groups.kept) == [name["mirrored"]]
    met = next(m for m in found.matches if {m.first, m.second} == {name["mirrored"], name["cut"]})
    assert met.candidate.variant == turned
    assert met.verdict.level.is_copy


@pytest.mark.parametrize("one", all_variants()[::5])
def test_variants_follow_each_other_and_are_undone_as_arrays_are(one):
    image = np.random.default_rng(0).normal(size=(2, 3, 4))

    def turned(variant, array):
        flips = tuple(slice(None, None, -1 if flip else 1) for flip in variant.flips)
        return (-1 if variant.negated else 1) * array.transpose(variant.order)[flips]

    np.testing.assert_array_equal(turned(one.undone, turned(one, image)), image)
    for other in all_variants()[::7]:
        np.testing.assert_array_equal(turned(one.after(other), image), turned(one, turned(other, image)))


def test_the_time_that_looking_takes_is_told_within_a_factor_of_two(folder, found):
    index = found[0]
    rows = list(build_manifest(folder, depth="header", workers=1)[0].rows())
    pairs = pairs_of(index, candidates(index), {target.id: target for target in targets_of(rows)})
    pairs = [pair for pair in pairs if pair.needs_voxels]
    assert len(pairs) >= 4
    spent = sum(_timed((pair,)) for pair in pairs)
    assert spent / 2 < processor_seconds(pairs) < spent * 2
