"""Several images a case: which scans are channels of one, in which order, and what the store then holds of each."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medssl
from medssl.errors import ConfigError, DataError
from medssl.manifest.check import check_manifest
from medssl.manifest.schema import manifest_of_rows, read_manifest, write_manifest
from medssl.store.index import read_index
from medssl.store.read import Store
from medssl.store.sources import files_of_store
from medssl.store.verify import verify
from tests.layouts.tree import SPACING_ZYX, by_name, index, label, voxels, write

FOUR = ("t1", "t1ce", "t2", "flair")


def cached(manifest, out: Path, *settings: str) -> Store:
    """Store a manifest in this process."""
    return medssl.cache(manifest, out=out, overrides=["workers=1", *settings]).store


def brats(root: Path, count: int = 4, *, flat: bool = False, lacking=(), names=FOUR) -> Path:
    """Write cases of BraTS; ``lacking`` holds (case, contrast)."""
    for n in range(count):
        case = f"BraTS_{n:05d}"
        for k, contrast in enumerate(names):
            if (n, contrast) not in lacking:
                write(root / ("" if flat else case) / f"{case}_{contrast}.nii.gz", voxels(10 * n + k))
        write(root / ("" if flat else case) / f"{case}_seg.nii.gz", label(n))
    return root


def cases(manifest):
    """Return case -> {channel: name of the file}."""
    found: dict[str, dict[str, str]] = {}
    for name, row in by_name(manifest).items():
        if row["case"]:
            found.setdefault(row["case"], {})[row["channel"]] = name
    return found


def holds(store: Store, case: str, channel: str, values: np.ndarray, atol: float = 0.0) -> None:
    """Compare a stored channel with values (z, y, x)."""
    place = [entry.id for entry in store.entries].index(case)
    entry = store.entries[place]
    number = entry.channel_names.index(channel)
    one = entry.channels[number]
    here = store.values(place, number) * one.slope + one.intercept
    np.testing.assert_allclose(here, values, atol=0.51 * one.slope + atol)


def of_file(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).T


@pytest.mark.parametrize("flat", [False, True])
def test_brats(tmp_path, flat, capsys):
    root = brats(tmp_path / "d", flat=flat)
    manifest = index(root)
    assert set(cases(manifest)) == {f"BraTS_{n:05d}" for n in range(4)}
    assert manifest.settings["channels"] == list(FOUR)
    assert "4 cases x 4 channels (t1, t1ce, t2, flair), 4 labelled" in capsys.readouterr().out
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert "channels=scans stores every scan by itself" in capsys.readouterr().out
    assert store.channels == FOUR
    assert len(store) == 4
    assert verify(store) == []
    files = files_of_store(tmp_path / "store")
    for n, entry in enumerate(store.entries):
        assert (entry.id, entry.patient) == (f"BraTS_{n:05d}", f"BraTS_{n:05d}")
        assert entry.split == next(row["split"] for row in manifest.rows() if row["case"] == entry.id)
        for channel in entry.channels:
            name = f"BraTS_{n:05d}_{channel.name}.nii.gz"
            assert files[entry.id].images[channel.name].name == name
            holds(store, entry.id, channel.name, of_file(files[entry.id].images[channel.name]))
        np.testing.assert_array_equal(store.labels(n), label(n))
        np.testing.assert_allclose(entry.affine, np.diag([*SPACING_ZYX[::-1], 1.0]))


def test_what_is_there_is_kept_and_what_changed_is_stored_again(tmp_path, capsys):
    root = brats(tmp_path / "d", 3)
    index(root)
    first = cached(tmp_path / "found.parquet", tmp_path / "store")
    capsys.readouterr()
    cached(tmp_path / "found.parquet", tmp_path / "store")
    assert "3 cases wanted: 3 are already stored" in capsys.readouterr().out
    changed = write(root / "BraTS_00001/BraTS_00001_t2.nii.gz", voxels(99))
    index(root)
    again = cached(tmp_path / "found.parquet", tmp_path / "store", "prune=true")
    assert "3 cases wanted: 2 are already stored" in capsys.readouterr().out
    files = [{entry.id: entry.file for entry in store.entries} for store in (first, again)]
    assert {case for case in files[0] if files[0][case] != files[1][case]} == {"BraTS_00001"}
    holds(again, "BraTS_00001", "t2", of_file(changed))
    assert len(list((tmp_path / "store/scans").glob("*.c1.b2nd"))) == 3  # the old files are gone
    (tmp_path / "store" / again.entries[0].more[2].file).write_bytes(b"x")
    assert [problem.id for problem in verify(again)] == ["BraTS_00000"]


def test_a_tree_that_moved_keeps_the_store(tmp_path):
    root = brats(tmp_path / "d", 2)
    index(root)
    cached(tmp_path / "found.parquet", tmp_path / "store")
    root.rename(tmp_path / "e")
    index(tmp_path / "e")
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    files = files_of_store(tmp_path / "store")
    for entry in store.entries:
        one = files[entry.id]
        assert tuple(one.images) == store.channels
        assert all(path.is_file() for path in one.images.values())
        assert one.label is not None
        assert one.label.is_file()


def test_a_case_that_lacks_a_channel_is_left_out_or_filled(tmp_path, capsys):
    root = brats(tmp_path / "d", 6, lacking={(3, "flair"), (4, "t1")})
    manifest = index(root)
    said = capsys.readouterr().out
    assert "6 cases x 4 channels (t1, t1ce, t2, flair), 6 labelled" in said
    assert "1 case lacks flair: BraTS_00003" in said
    assert "1 case lacks t1: BraTS_00004" in said
    assert "medssl cache leaves out cases that lack a channel; missing=fill keeps them" in said
    findings = [f for f in check_manifest(manifest).findings if f.kind == "channel-missing"]
    assert [f.what for f in findings] == [
        "1 of 6 cases lack the channel flair: BraTS_00003", "1 of 6 cases lack the channel t1: BraTS_00004",
    ]  # fmt: skip
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    said = capsys.readouterr().out
    assert "cases that lack flair are left out: 1 (BraTS_00003)" in said
    assert "missing=fill" in said
    assert [entry.id for entry in store.entries] == [f"BraTS_{n:05d}" for n in (0, 1, 2, 5)]
    filled = cached(tmp_path / "found.parquet", tmp_path / "filled", "missing=fill")
    assert [entry.present for entry in filled.entries][3:5] == [(True, True, True, False), (False, True, True, True)]
    lacking = filled.entries[3].channels[3]
    assert (filled.values(3, 3) == lacking.scale[0]).all()  # 0 to a network
    holds(filled, "BraTS_00004", "t1ce", voxels(41))
    np.testing.assert_array_equal(filled.labels(4), label(4))
    fewer = cached(tmp_path / "found.parquet", tmp_path / "fewer", "channels=t2,t1ce")
    assert fewer.channels == ("t2", "t1ce")
    assert len(fewer) == 6
    holds(fewer, "BraTS_00003", "t2", voxels(32))


def test_a_channel_that_reduce_left_out_or_that_cannot_be_read_is_lacking(tmp_path):
    root = brats(tmp_path / "d", 4)
    (root / "BraTS_00002/BraTS_00002_t1ce.nii.gz").write_bytes(b"no image")
    manifest = index(root)
    rows = [{**row, "keep": not row["path"].endswith("00001_t2.nii.gz")} for row in manifest.rows()]
    write_manifest(manifest_of_rows(rows, settings=manifest.settings), tmp_path / "kept.parquet")
    store = cached(tmp_path / "kept.parquet", tmp_path / "store")
    assert [entry.id for entry in store.entries] == ["BraTS_00000", "BraTS_00003"]
    lacking = [f.what for f in check_manifest(manifest).findings if f.kind == "channel-missing"]
    assert lacking == ["1 of 4 cases lack the channel t1ce: BraTS_00002"]


def test_visits_and_frames_are_cases_of_their_own(tmp_path):
    root = tmp_path / "d"
    for n, (patient, visit) in enumerate([("00003", "000"), ("00003", "001"), ("00005", "000")]):
        for k, contrast in enumerate(("t1n", "t2f")):
            write(
                root / f"BraTS-GLI-{patient}-{visit}/BraTS-GLI-{patient}-{visit}-{contrast}.nii.gz", voxels(9 * n + k)
            )
    manifest = index(root)
    assert set(cases(manifest)) == {"BraTS-GLI-00003-000", "BraTS-GLI-00003-001", "BraTS-GLI-00005-000"}
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("t1n", "t2f")
    assert [entry.patient for entry in store.entries] == ["BraTS-GLI-00003", "BraTS-GLI-00003", "BraTS-GLI-00005"]


@pytest.mark.parametrize("said", [None, "v1", "v2"])
def test_nnunet(tmp_path, said):
    root = tmp_path / "d"
    for n in (1, 2, 3):
        for c in (0, 1):
            write(root / f"imagesTr/case_{n:02d}_000{c}.nii.gz", voxels(10 * n + c))
        write(root / f"labelsTr/case_{n:02d}.nii.gz", label(n))
    listed = [{"image": f"./imagesTr/case_0{n}.nii.gz", "label": f"./labelsTr/case_0{n}.nii.gz"} for n in (1, 2, 3)]
    names = {"0": "T2", "1": "ADC"}
    if said == "v1":
        text = {"modality": names, "labels": {"0": "background", "1": "a", "2": "b"}, "training": listed}
    else:
        text = {"channel_names": names, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    if said:
        (root / "dataset.json").write_text(json.dumps(text))
    index(root)
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == (("T2", "ADC") if said else ("0000", "0001"))
    assert [entry.id for entry in store.entries] == ["case_01", "case_02", "case_03"]
    for n in (1, 2, 3):
        for c, channel in enumerate(store.channels):
            holds(store, f"case_{n:02d}", channel, voxels(10 * n + c))
        np.testing.assert_array_equal(store.labels(n - 1), label(n))


def test_a_dataset_json_orders_channels_and_one_case_is_enough(tmp_path):
    root = tmp_path / "d"
    for c in (0, 1, 2):
        write(root / f"imagesTr/one_000{c}.nii.gz", voxels(c))
    text = {
        "channel_names": {"0": "zeta", "1": "T1", "2": "alpha"},
        "labels": {"background": 0},
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(text))
    index(root)
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("zeta", "T1", "alpha")
    assert store.entries[0].id == "one"


def test_bids(tmp_path):
    root = tmp_path / "d"
    for n in (1, 2, 3):
        for k, suffix in enumerate(("FLAIR", "T1w", "T2w")):
            write(root / f"sub-0{n}/ses-1/anat/sub-0{n}_ses-1_{suffix}.nii.gz", voxels(10 * n + k))
        write(root / f"derivatives/seg/sub-0{n}/ses-1/anat/sub-0{n}_ses-1_dseg.nii.gz", label(n))
    index(root)
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("T1w", "T2w", "FLAIR")
    assert [entry.id for entry in store.entries] == ["sub-01-ses-1", "sub-02-ses-1", "sub-03-ses-1"]
    holds(store, "sub-02-ses-1", "FLAIR", voxels(20))
    holds(store, "sub-02-ses-1", "T1w", voxels(21))
    np.testing.assert_array_equal(store.labels(1), label(2))


def test_an_agent_that_a_bids_name_tells_makes_another_channel(tmp_path):
    root = tmp_path / "d"
    for n in (1, 2, 3):
        for k, name in enumerate(("T1w", "ce-gd_T1w", "T2w") if n < 3 else ("ce-gd_T1w", "T2w")):
            write(root / f"sub-0{n}/anat/sub-0{n}_{name}.nii.gz", voxels(10 * n + k))
    manifest = index(root)
    assert cases(manifest)["sub-01"] == {
        "T1w": "sub-01/anat/sub-01_T1w.nii.gz", "T2w": "sub-01/anat/sub-01_T2w.nii.gz",
        "ce_T1w": "sub-01/anat/sub-01_ce-gd_T1w.nii.gz",
    }  # fmt: skip
    assert "T1w" not in cases(manifest)["sub-03"]
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("T1w", "ce_T1w", "T2w")
    assert [entry.id for entry in store.entries] == ["sub-01", "sub-02"]


def test_a_second_run_stays_a_scan_and_is_said(tmp_path, capsys):
    root = tmp_path / "d"
    for n in (1, 2):
        for run in (1, 2):
            write(root / f"sub-0{n}/anat/sub-0{n}_run-{run}_T1w.nii.gz", voxels(10 * n + run))
        write(root / f"sub-0{n}/anat/sub-0{n}_T2w.nii.gz", voxels(10 * n))
    manifest = index(root)
    assert cases(manifest)["sub-01"] == {
        "T1w": "sub-01/anat/sub-01_run-1_T1w.nii.gz", "T2w": "sub-01/anat/sub-01_T2w.nii.gz",
    }  # fmt: skip
    said = capsys.readouterr()
    assert "2 scans repeat a channel of their case" in said.out + said.err
    cached(tmp_path / "found.parquet", tmp_path / "store")
    assert "2 scans are no channel of a case and are not stored; channels=scans" in capsys.readouterr().out


def test_folders_of_contrasts_and_of_processing(tmp_path):
    root = tmp_path / "d"
    for n in (1, 2, 3):
        for k, contrast in enumerate(("T1", "FLAIR")):
            for place in ("orig", "pre"):
                write(root / f"{n}00/{place}/{contrast}.nii.gz", voxels(10 * n + k + (place == "pre") * 5))
    found = cases(index(root))
    assert len(found) == 3
    assert all(len({name.split("/")[1] for name in own.values()}) == 1 for own in found.values())  # never one of each


def test_rare_channels_make_no_cases(tmp_path, capsys):
    root = tmp_path / "d"
    for n in range(12):
        write(root / f"p{n:03d}/t1.nii.gz", voxels(n))
    for n in (1, 2):
        write(root / f"p{n:03d}/t2.nii.gz", voxels(50 + n))
    assert cases(index(root)) == {}
    said = capsys.readouterr()
    assert "2 patients have scans of several channels (t1, t2)" in said.out + said.err
    assert len(cached(tmp_path / "found.parquet", tmp_path / "store")) == 14
    assert len(cases(index(root, "channels=t1,t2"))) == 12


def test_channels_by_hand(tmp_path, capsys):
    root = brats(tmp_path / "d", 3)
    manifest = index(root, "channels=flair,t1")
    assert manifest.settings["channels"] == ["flair", "t1"]
    assert "6 scans are no channel of a case (t1ce 3, t2 3)" in capsys.readouterr().out
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("flair", "t1")
    holds(store, "BraTS_00001", "flair", voxels(13))
    with pytest.raises(ConfigError, match=r"no scan has the channel 't3'.*t1, t1ce, t2, flair"):
        index(root, "channels=t1,t3")
    with pytest.raises(ConfigError, match="have no channel 'adc'"):
        cached(tmp_path / "found.parquet", tmp_path / "store", "channels=adc")


def test_every_scan_by_itself(tmp_path):
    root = brats(tmp_path / "d", 3)
    index(root)
    store = cached(tmp_path / "found.parquet", tmp_path / "store", "channels=scans")
    assert store.channels == ("image",)
    assert len(store) == 12
    assert cases(index(root, "channels=none", out="none.parquet")) == {}
    again = cached(tmp_path / "none.parquet", tmp_path / "none")
    assert [e.file for e in again.entries] == [e.file for e in store.entries]  # the same keys


def test_an_old_manifest_has_no_cases(tmp_path):
    root = brats(tmp_path / "d", 2)
    manifest = index(root)
    old = manifest.with_frame(manifest.frame.drop("case"))
    old.frame.write_parquet(tmp_path / "old.parquet")
    read = read_manifest(tmp_path / "old.parquet")
    assert set(read.frame["case"]) == {""}
    assert len(cached(read, tmp_path / "store")) == 8


def test_a_csv_with_a_column_for_each_channel(tmp_path):
    root = tmp_path / "d"
    lines = ["patient,image_t2,image_adc,label,split"]
    for n in (1, 2):
        for k, name in enumerate(("t2", "adc")):
            write(root / f"{name}_{n}.nii.gz", voxels(10 * n + k))
        write(root / f"map{n}.nii.gz", label(n))
        lines.append(f"p{n},t2_{n}.nii.gz,adc_{n}.nii.gz,map{n}.nii.gz,{'train' if n == 1 else 'test'}")
    (root / "list.csv").write_text("\n".join(lines))
    medssl.index(root / "list.csv", out=tmp_path / "found.parquet")
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("t2", "adc")
    assert [(e.id, e.patient, e.split) for e in store.entries] == [("p1", "p1", "train"), ("p2", "p2", "test")]
    holds(store, "p2", "adc", voxels(21))
    np.testing.assert_array_equal(store.labels(1), label(2))


def test_a_csv_with_cases_and_channels(tmp_path):
    root = tmp_path / "d"
    lines = ["path,case,channel"]
    for n in (1, 2):
        for k, name in enumerate(("pet", "ct")):
            write(root / f"x{n}{k}.nii.gz", voxels(10 * n + k))
            lines.append(f"x{n}{k}.nii.gz,visit {n},{name}")
    (root / "list.csv").write_text("\n".join(lines))
    medssl.index(root / "list.csv", out=tmp_path / "found.parquet")
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("ct", "pet")
    assert [(e.id, e.patient) for e in store.entries] == [("visit-1", "visit 1"), ("visit-2", "visit 2")]
    holds(store, "visit-2", "pet", voxels(20))


def test_channels_of_several_patients_are_refused(tmp_path):
    root = tmp_path / "d"
    lines = ["path,case,channel,patient"]
    for n, (case, channel, patient) in enumerate(
        [("a", "t1", "p1"), ("a", "t2", "p2"), ("b", "t1", "p3"), ("b", "t2", "p3")]
    ):
        write(root / f"x{n}.nii.gz", voxels(n))
        lines.append(f"x{n}.nii.gz,{case},{channel},{patient}")
    (root / "list.csv").write_text("\n".join(lines))
    medssl.index(root / "list.csv", out=tmp_path / "found.parquet")
    result = check_manifest(read_manifest(tmp_path / "found.parquet"))
    assert [f.kind for f in result.findings if f.severity == "error"] == ["case-of-several-patients"]
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert [entry.id for entry in store.entries] == ["b"]
    assert "several patients (p1, p2)" in read_index(tmp_path / "store").failed["a"]


@pytest.mark.parametrize(("column", "kind", "word"), [("split", "splits", "test, train"), ("grade", "classes", "a, b")])
def test_channels_of_several_splits_or_classes_are_refused(tmp_path, column, kind, word):
    """A CSV that contradicts itself: the first row's word would be taken in silence."""
    root = tmp_path / "d"
    for case in "ab":
        for k, name in enumerate(("t1", "t2")):
            write(root / f"{case}_{name}.nii.gz", voxels(ord(case) + k))
    manifest = index(root)
    other = {("split", "t1"): "test", ("split", "t2"): "train", ("grade", "t1"): "a", ("grade", "t2"): "b"}

    def changed(row):
        wrong = other[column, row["channel"]] if row["case"] == "a" else other[column, "t2"]
        return {**row, "split": wrong if column == "split" else "train",
                "targets": json.dumps({"grade": wrong}) if column == "grade" else None}  # fmt: skip

    made = manifest_of_rows([changed(row) for row in manifest.rows()], settings=manifest.settings)
    assert f"case-of-several-{kind}" in [f.kind for f in check_manifest(made).findings if f.severity == "error"]
    store = cached(made, tmp_path / "store")
    assert [entry.id for entry in store.entries] == ["b"]
    assert word in read_index(tmp_path / "store").failed["a"]


def film(path: Path, seed: int, frames: int) -> np.ndarray:
    """Write a 4D NIfTI and return its frames (frame, z, y, x)."""
    values = np.stack([voxels(seed + frame) for frame in range(frames)])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.transpose(3, 2, 1, 0), np.diag([*SPACING_ZYX[::-1], 1.0])), path)
    return values


def test_frames_that_a_dataset_json_names_are_channels(tmp_path):
    root = tmp_path / "d"
    made = {}
    for n in (1, 2, 3):
        made[n] = film(root / f"imagesTr/BRATS_00{n}.nii.gz", 10 * n, 2)
        write(root / f"labelsTr/BRATS_00{n}.nii.gz", label(n))
    listed = [{"image": f"./imagesTr/BRATS_00{n}.nii.gz", "label": f"./labelsTr/BRATS_00{n}.nii.gz"} for n in (1, 2, 3)]
    text = {"modality": {"0": "FLAIR", "1": "T1w"}, "labels": {"0": "background", "1": "a"}, "training": listed}
    (root / "dataset.json").write_text(json.dumps(text))
    manifest = index(root)
    assert len(manifest) == 3
    assert set(manifest.frame["channel"]) == {"FLAIR,T1w"}
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("FLAIR", "T1w")
    assert [e.id for e in store.entries] == [f"BRATS_00{n}" for n in (1, 2, 3)]
    for n in (1, 2, 3):
        for k, channel in enumerate(store.channels):
            holds(store, f"BRATS_00{n}", channel, made[n][k])
        np.testing.assert_array_equal(store.labels(n - 1), label(n))
    first = cached(tmp_path / "found.parquet", tmp_path / "first", "channels=scans")
    assert first.channels == ("image",)
    holds(first, "BRATS_002", "image", made[2][0])


def test_frames_are_channels_by_hand(tmp_path, capsys):
    root = tmp_path / "d"
    made = [film(root / f"s{n}.nii.gz", 10 * n, 3) for n in range(2)]
    film(root / "s9.nii.gz", 90, 2)
    assert cases(index(root)) == {}
    index(root, "channels=frames")
    said = capsys.readouterr()
    assert "1 files have another number of frames" in said.out + said.err
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("frame0", "frame1", "frame2")
    holds(store, "s1", "frame2", made[1][2])
    index(root, "channels=b0,b500,b1000", out="named.parquet")
    named = cached(tmp_path / "named.parquet", tmp_path / "named")
    assert named.channels == ("b0", "b500", "b1000")
    holds(named, "s0", "b500", made[0][1])


def ramp(shape, affine):
    """Return a linear function of the world, which linear interpolation keeps."""
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    place = np.stack([x, y, z, np.ones(shape)], axis=-1) @ np.asarray(affine).T
    return (2.0 * place[..., 0] - 3.0 * place[..., 1] + 5.0 * place[..., 2] + 700.0).astype(np.float32)


def put(path, values, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.T, affine), path)


@pytest.mark.parametrize("turned", [False, True])
def test_another_grid_is_brought_to_the_first_ones(tmp_path, turned, capsys):
    root = tmp_path / "d"
    fine, coarse = np.diag([1.0, 1.5, 3.0, 1.0]), np.diag([1.25, 1.25, 2.0, 1.0])
    coarse[:3, 3] = (-3.0, -4.0, -5.0)
    if turned:  # axes run the other way: the same voxels in the same places
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        flip[0, 3] = 19
    for n in (1, 2):
        put(root / f"{n}00/t2.nii.gz", ramp((8, 12, 10), fine) + n, fine)
        values = ramp((20, 24, 20), coarse) + n
        put(root / f"{n}00/adc.nii.gz", values[..., ::-1] if turned else values, coarse @ flip if turned else coarse)
    manifest = index(root)
    (finding,) = [f for f in check_manifest(manifest).findings if f.kind == "channel-on-another-grid"]
    corner = np.linalg.norm(np.array([-3 - 0.625 + 0.5, -4 - 0.625 + 0.75, -5 - 1 + 1.5]))
    assert "adc of 2 cases" in finding.what
    assert "t2" in finding.what
    assert float(finding.what.split("up to ")[1].split(" mm")[0]) >= corner - 0.1
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert "2 scans are marked 'channel-resampled'" in "".join(capsys.readouterr())
    assert store.channels == ("t2", "adc")
    assert store.entries[0].shape == (8, 12, 10)
    holds(store, "100", "t2", ramp((8, 12, 10), fine) + 1)
    holds(store, "200", "adc", ramp((8, 12, 10), fine) + 2, atol=0.01)


def test_a_channel_elsewhere_is_refused_by_name(tmp_path, capsys):
    root = tmp_path / "d"
    for n in (1, 2, 3):
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        put(root / f"{n}00/t1.nii.gz", voxels(n, (12, 40, 40)), affine)
        affine[0, 3] = {1: 0.0, 2: 25.0, 3: 500.0}[n]
        put(root / f"{n}00/t2.nii.gz", voxels(10 + n, (12, 40, 40)), affine)
    index(root)
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert [entry.id for entry in store.entries] == ["100"]
    said = "".join(capsys.readouterr())
    assert "200" in said
    assert "reaches 25.0 mm beyond" in said
    assert "channel_gap_mm=25" in said
    more = cached(tmp_path / "found.parquet", tmp_path / "store", "channel_gap_mm=1000")
    assert [entry.id for entry in more.entries] == ["100", "200"]  # the third overlaps nowhere
    there = more.values(1, 1) * more.entries[1].more[0].slope + more.entries[1].more[0].intercept
    moved = voxels(12, (12, 40, 40))
    np.testing.assert_allclose(there[..., 25:], moved[..., :15], atol=0.51 * more.entries[1].more[0].slope)
    np.testing.assert_allclose(there[..., :25], moved.min(), atol=0.51 * more.entries[1].more[0].slope)


def test_ct_and_pet_keep_their_own_units(tmp_path):
    root = tmp_path / "d"
    made = {}
    for n in (1, 2):
        ct = np.rint(np.random.default_rng(n).normal(0, 400, (10, 24, 24))).clip(-1024, 1500).astype(np.int16)
        ct[:, :6] = -1000
        made[n] = ct
        put(root / f"P{n}__CT.nii.gz", ct, np.eye(4))
        put(root / f"P{n}__PT.nii.gz", voxels(20 + n, (10, 24, 24)) / 100, np.eye(4))
    index(root)
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("ct", "pt")
    assert next(channel.modality for channel in store.entries[0].channels) == "CT"
    place = [e.id for e in store.entries].index("P2")
    np.testing.assert_array_equal(store.values(place, 0), made[2])  # HU, bit for bit
    holds(store, "P2", "pt", voxels(22, (10, 24, 24)) / 100)


def test_voxel_size_crop_and_body_are_the_cases(tmp_path):
    root = tmp_path / "d"
    z, y, x = np.meshgrid(np.arange(16), np.arange(40), np.arange(40), indexing="ij")
    ball = (((z - 8) / 5) ** 2 + ((y - 20) / 10) ** 2 + ((x - 18) / 9) ** 2 < 1) * 1.0
    for n in (1, 2):
        for k, name in enumerate(("t1", "t2")):
            put(
                root / f"{n}00/{name}.nii.gz",
                (ball * 500 + voxels(10 * n + k, z.shape) / 30).astype(np.float32),
                np.eye(4),
            )
    index(root)
    whole = cached(tmp_path / "found.parquet", tmp_path / "store")
    cropped = cached(tmp_path / "found.parquet", tmp_path / "cropped", "crop=true", "crop_margin_mm=1")
    entry = cropped.entries[0]
    offset = np.rint(np.array(entry.affine)[:3, 3])[::-1].astype(int)
    assert (np.array(entry.shape) < 40).all()
    assert (offset > 0).all()
    box = tuple(slice(o, o + s) for o, s in zip(offset, entry.shape, strict=True))
    for number in (0, 1):
        a, b = whole.entries[0].channels[number], entry.channels[number]
        np.testing.assert_allclose(
            whole.values(0, number)[box] * a.slope + a.intercept, cropped.values(0, number) * b.slope + b.intercept,
            atol=a.slope + b.slope,
        )  # fmt: skip
    finer = cached(tmp_path / "found.parquet", tmp_path / "finer", "spacing_mm=[2,2,2]")
    assert finer.entries[0].spacing_mm == (2.0, 2.0, 2.0)
    assert finer.entries[0].shape == (8, 20, 20)


def test_no_case_is_whole(tmp_path):
    root = brats(tmp_path / "d", 2, lacking={(0, "flair"), (1, "t1")})
    index(root, "channels=t1,flair")
    with pytest.raises(DataError, match=r"Every case.*missing=fill"):
        cached(tmp_path / "found.parquet", tmp_path / "store")


def test_stores_of_other_channels_are_no_mixture(tmp_path):
    """Cases of one store have the same channels; what an earlier call stored of others is left aside."""
    root = brats(tmp_path / "d", 2)
    index(root)
    cached(tmp_path / "found.parquet", tmp_path / "store")
    fewer = cached(tmp_path / "found.parquet", tmp_path / "store", "channels=t1,t2")
    assert fewer.channels == ("t1", "t2")
    assert verify(fewer) == []


def test_views_in_other_planes_are_no_channels(tmp_path, capsys):
    """PI-CAI: the sagittal and the coronal T2 lie beside the axial one and the diffusion."""
    root = tmp_path / "d"
    for n in range(2):
        for k, name in enumerate(("sag", "hbv", "cor", "adc", "t2w")):
            write(root / f"1000{n}/1000{n}_100000{n}_{name}.nii.gz", voxels(10 * n + k))
    manifest = index(root)
    assert manifest.settings["channels"] == ["t2w", "adc", "hbv"]
    assert "4 scans are no channel of a case (" in capsys.readouterr().out
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("t2w", "adc", "hbv")
    holds(store, store.entries[1].id, "hbv", voxels(11))
    assert index(root, "channels=t2w,cor").settings["channels"] == ["t2w", "cor"]


def test_a_label_map_lies_on_the_grid_of_the_first_channel(tmp_path, capsys):
    root = tmp_path / "d"
    coarse = np.diag([2.0, 2.0, 3.0, 1.0])
    for n in (1, 2):
        put(root / f"{n}00/t2.nii.gz", voxels(n, (8, 24, 20)), np.diag([1.0, 1.0, 3.0, 1.0]))
        put(root / f"{n}00/adc.nii.gz", voxels(10 + n), coarse)
        put(root / f"{n}00/seg.nii.gz", label(n), coarse)
    index(root)
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert [entry.label_file for entry in store.entries] == [None, None]
    assert "label-shape-differs" in "".join(capsys.readouterr())
    swapped = cached(tmp_path / "found.parquet", tmp_path / "swapped", "channels=adc,t2")
    np.testing.assert_array_equal(swapped.labels(0), label(1))  # on the grid of the first channel
    near = cached(tmp_path / "found.parquet", tmp_path / "near", "accept=[label-shape-differs]")
    z, _y, x = np.nonzero(near.labels(0) == 1)
    there = np.argwhere(label(1) == 1)
    assert abs(np.mean(x) * 1.0 - there[:, 2].mean() * 2.0) < 1.0  # mm
    assert abs(len(z) - 4 * len(there)) <= len(there)


def test_a_manifest_written_by_hand(tmp_path):
    for n in (1, 2):
        for k, name in enumerate(("t1", "t2")):
            write(tmp_path / f"{name}{n}.nii.gz", voxels(10 * n + k))
    lines = ["id,path,case,channel,patient"]
    lines += [f"{c}{n},{tmp_path}/{c}{n}.nii.gz,c{n},{c},p{n}" for n in (1, 2) for c in ("t2", "t1")]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    store = cached(tmp_path / "manifest.csv", tmp_path / "store")
    assert store.channels == ("t1", "t2")
    assert [(entry.id, entry.patient) for entry in store.entries] == [("c1", "p1"), ("c2", "p2")]
    holds(store, "c2", "t2", voxels(21))


def test_a_stray_value_of_one_case_is_one_and_not_four(tmp_path):
    root = brats(tmp_path / "d", 3)
    values = label(1)
    values[0, 0, :5] = 9
    write(root / "BraTS_00001/BraTS_00001_seg.nii.gz", values)
    manifest = index(root)
    named = manifest_of_rows(manifest.rows(), classes={1: "a", 2: "b"}, settings=manifest.settings)
    strays = {f.scan for f in check_manifest(named).findings if f.kind == "label-stray"}
    assert strays == {f"BraTS_00001_{name}" for name in FOUR}
    store = cached(named, tmp_path / "store")  # and so says the store
    assert [entry.id for entry in store.entries if entry.label_file] == ["BraTS_00000", "BraTS_00002"]
