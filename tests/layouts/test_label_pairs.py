"""Which label is whose in the trees that people have, and what becomes of labels that are no one's."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import medssl
from tests.layouts.tree import by_name, index, label, voxels, write


def put(root, images, labels):
    """Write images and labels of one grid."""
    for seed, name in enumerate([*images, *labels]):
        values = voxels(seed) if name in images else label(seed)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".nii.gz") or name.endswith(".nii"):
            write(path, values)
        else:
            sitk.WriteImage(sitk.GetImageFromArray(values), path)
    return root


def pairs(manifest, root):
    """Return image -> label, both as seen from the root; "" for none."""
    return {name: str(row["label_path"] or "").removeprefix(f"{root}/") for name, row in by_name(manifest).items()}


def of(names, *endings):
    return [f"{name}{ending}" for name in names for ending in endings]


CASES = {
    "kits": ({f"case_0000{n}/imaging.nii.gz": f"case_0000{n}/segmentation.nii.gz" for n in (1, 2)}),
    "beside": {"case.nrrd": "case.seg.nrrd"},
    "btcv": {f"img/img000{n}.nii.gz": f"label/label000{n}.nii.gz" for n in (1, 2)},
    "lits": {f"volume-{n}.nii": f"segmentation-{n}.nii" for n in (0, 1)},
    "inside": {"example_ct.nii.gz": "example_seg_fast_force_split.nii.gz"},
    "promise": {f"Case0{n}.mhd": f"Case0{n}_segmentation.mhd" for n in (0, 1)},
    "masks": {f"images/X{n}_flair.nii.gz": f"masks/X{n}_mask.nii.gz" for n in (1, 2)},
    "channels": {f"00{n}/{c}.nii.gz": f"00{n}/seg.nii.gz" for n in (1, 2) for c in ("t2", "adc", "dwi")},
    "brats": {f"B_000{n}/B_000{n}_{c}.nii.gz": f"B_000{n}/B_000{n}_seg.nii.gz" for n in (1, 2) for c in ("t1", "t2")},
    "visits": {
        f"BraTS-GLI-00003-00{v}-{c}.nii.gz": f"BraTS-GLI-00003-00{v}-seg.nii.gz" for v in (0, 1) for c in ("t1n", "t2f")
    },
    "frames": {
        **{f"p001/p001_frame{n}.nii.gz": f"p001/p001_frame{n}_gt.nii.gz" for n in ("01", "12")},
        "p001/p001_4d.nii.gz": "",
    },
    "prostate158": {
        f"0{n}/{c}.nii.gz": f"0{n}/{c}_{what}_reader1.nii.gz"
        for n in (20, 21) for c, what in (("t2", "anatomy"), ("adc", "tumor"))
    },
    "wmh": {f"A/{n}/{p}/{c}.nii.gz": f"A/{n}/wmh.nii.gz" for n in (1, 2) for p in ("pre", "orig") for c in ("PD",)},
    "hecktor": {f"CHUM-00{n}__{c}.nii.gz": f"CHUM-00{n}.gtv_seg.nii.gz" for n in (1, 2) for c in ("CT", "PT")},
    "views": {f"00{n}/00{n}_{v}.nii.gz": f"00{n}/00{n}_{v}_gt.nii.gz" for n in (1, 2) for v in ("SA_ED", "SA_ES")},
    "msseg": {f"P0{n}/Raw_Data/{c}.nii.gz": f"P0{n}/Masks/Consensus.nii.gz" for n in (1, 2) for c in ("FLAIR", "T1")},
    "splits": {f"{s}/img/img0001.nii.gz": f"{s}/label/label0001.nii.gz" for s in ("train", "test")},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
def test_labels_by_name(tmp_path, name):
    wanted = CASES[name]
    root = put(tmp_path / "d", list(wanted), sorted({label for label in wanted.values() if label}))
    manifest = index(root)
    assert pairs(manifest, root) == wanted
    for row in manifest.rows():
        if row["label_path"]:
            truth = sitk.GetArrayFromImage(sitk.ReadImage(row["label_path"]))
            assert dict(zip(row["label_values"], row["label_voxels"], strict=True)) == {
                int(value): int((truth == value).sum()) for value in np.unique(truth)
            }
            assert not any(flag.startswith("label-") for flag in row["flags"])


def test_a_label_of_one_contrasts_grid_is_not_given_to_the_others(tmp_path):
    root = put(tmp_path / "d", [], [])
    for n in (1, 2):
        write(root / f"{n}/t2.nii.gz", voxels(n))
        write(root / f"{n}/adc.nii.gz", voxels(9 + n, (4, 6, 5)), (6.0, 3.0, 2.0))
        write(root / f"{n}/seg.nii.gz", label(n))
    manifest = index(root)
    assert pairs(manifest, root) == {
        f"{n}/{c}.nii.gz": f"{n}/seg.nii.gz" if c == "t2" else "" for n in (1, 2) for c in ("t2", "adc")
    }
    assert any("2 scans lie on another grid" in note for note in manifest.notes)
    again = index(root)
    assert again.frame.equals(manifest.frame)


def test_a_folder_of_structures_is_the_label(tmp_path):
    root = tmp_path / "d"
    voxels_of = {}
    for n in (1, 2):
        write(root / f"s000{n}/ct.nii.gz", voxels(n))
        for value, structure in enumerate(("liver", "kidney_left", "spleen")[: 1 + n]):
            mask = (label(n) == 1) if value == 0 else (label(n) == 2) if value == 1 else np.zeros(label(n).shape, bool)
            voxels_of[n, structure] = int(mask.sum())
            write(root / f"s000{n}/segmentations/{structure}.nii.gz", mask.astype(np.uint8))
    manifest = index(root)
    assert pairs(manifest, root) == {f"s000{n}/ct.nii.gz": f"s000{n}/segmentations" for n in (1, 2)}
    assert manifest.classes == {0: "background", 1: "kidney_left", 2: "liver", 3: "spleen"}
    for n in (1, 2):
        row = by_name(manifest)[f"s000{n}/ct.nii.gz"]
        counts = dict(zip(row["label_values"], row["label_voxels"], strict=True))
        assert counts[1] == voxels_of[n, "kidney_left"]
        assert counts[2] == voxels_of[n, "liver"]


def test_files_of_one_structure_each_are_no_label_and_it_is_said(tmp_path):
    root = put(
        tmp_path / "d",
        of(["set_1/case_01/case_01", "set_1/case_02/case_02"], "_IMG_CT.nrrd"),
        of(["set_1/case_01/case_01", "set_1/case_02/case_02"], "_OAR_Bladder.seg.nrrd", "_OAR_Eye_L.seg.nrrd"),
    )
    manifest = index(root)
    assert set(pairs(manifest, root).values()) == {""}
    assert len(manifest) == 2
    assert any("2 scans have a label file for each structure" in note for note in manifest.notes)


@pytest.mark.parametrize("place", ["", "raw/ds001/"])
def test_derivatives_of_bids_also_below_the_root(tmp_path, place):
    root = put(
        tmp_path / "d",
        [f"{place}sub-0{n}/ses-1/anat/sub-0{n}_ses-1_{c}.nii.gz" for n in (1, 2) for c in ("T1w", "T2w")]
        + [f"{place}derivatives/x/sub-01/ses-1/anat/sub-01_ses-1_space-MNI_T1w.nii.gz"],
        [f"{place}derivatives/x/sub-0{n}/ses-1/anat/sub-0{n}_ses-1_desc-hand_dseg.nii.gz" for n in (1, 2)],
    )
    manifest = index(root)
    found = pairs(manifest, root)
    for n in (1, 2):
        start = f"{place}sub-0{n}/ses-1/anat/sub-0{n}_ses-1"
        assert (
            found.pop(f"{start}_T1w.nii.gz")
            == f"{place}derivatives/x/{start.removeprefix(place)}_desc-hand_dseg.nii.gz"
        )
        assert found.pop(f"{start}_T2w.nii.gz") == ""
    assert found == {}
    rows = by_name(manifest)
    row = rows[f"{place}sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz"]
    assert (row["patient"], row["study"], row["channel"], row["patient_rule"]) == ("sub-01", "ses-1", "T2w", "bids")


def test_two_sets_of_bids_have_different_people(tmp_path):
    root = put(tmp_path / "d", [f"{d}/sub-01/anat/sub-01_T1w.nii.gz" for d in ("a", "b")], [])
    for name in ("a", "b"):
        (root / name / "dataset_description.json").write_text("{}")
    assert {row["patient"] for row in index(root).rows()} == {"a/sub-01", "b/sub-01"}


def test_orphans_are_one_line(tmp_path, capsys):
    root = put(tmp_path / "d", ["images/a.nii.gz"], [f"labels/b{n}.nii.gz" for n in range(12)])
    manifest = index(root)
    said = capsys.readouterr().err
    assert said.count("label files have no image") == 1
    assert "12 label files have no image, such as" in said
    assert said.count("/labels/") == 1
    found = [f for f in medssl.check(manifest, out=tmp_path / "c.html", pictures=0).findings
             if f.kind == "label-without-image"]  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize("shape", [(8, 12, 10), (24, 32, 30)])
def test_label_maps_under_odd_names_are_set_aside_or_paired_whatever_their_size(tmp_path, capsys, shape):
    root = tmp_path / "d"
    for n in range(3):
        write(root / f"{n + 10}/t2.nii.gz", voxels(n, shape))
        write(root / f"{n + 10}/organ.nii.gz", label(n, shape))
        write(root / f"alone_{n}.nii.gz", label(5 + n, shape))
    manifest = index(root)
    assert sorted(pairs(manifest.usable(), root).items()) == [
        (f"{n + 10}/t2.nii.gz", f"{n + 10}/organ.nii.gz") for n in range(3)
    ]
    said = capsys.readouterr().err
    assert said.count("look like label maps") == 2
    assert "3 files look like label maps and were set aside, such as" in said
    assert any("3 files look like label maps and lie on the grid of a scan" in note for note in manifest.notes)
    for row in manifest.usable().rows():
        truth = np.asarray(nib.load(row["label_path"]).dataobj)
        assert row["label_voxels"] == [int((truth == value).sum()) for value in row["label_values"]]
    again = index(root)
    assert again.frame.equals(manifest.frame)
    assert "0 scans were read, 6 had not changed" in capsys.readouterr().out
    aside = index(root, "label_maps=aside", out="aside.parquet")
    assert set(pairs(aside.usable(), root).values()) == {""}
    assert len(aside.usable()) == 3
    assert len(index(root, "label_maps=scan", out="scan.parquet").usable()) == 9


def test_what_a_csv_lists_is_a_scan_by_word_of_a_person(tmp_path):
    root = put(tmp_path / "d", [], ["a.nii.gz", "b.nii.gz"])
    (root / "list.csv").write_text("path\na.nii.gz\nb.nii.gz\n")
    assert len(index(root / "list.csv").usable()) == 2


def test_msd_keeps_what_it_says(tmp_path):
    root = put(tmp_path / "d", ["imagesTr/s_1.nii.gz", "imagesTs/s_9.nii.gz"], ["labelsTr/s_1.nii.gz"])
    said = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "test": ["./imagesTs/s_9.nii.gz"],
            "training": [{"image": "./imagesTr/s_1.nii.gz", "label": "./labelsTr/s_1.nii.gz"}]}  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(said))
    manifest = index(root)
    assert pairs(manifest, root) == {"imagesTr/s_1.nii.gz": "labelsTr/s_1.nii.gz", "imagesTs/s_9.nii.gz": ""}
    assert by_name(manifest)["imagesTs/s_9.nii.gz"]["split"] == "test"


def test_several_labels_of_one_scan_are_told(tmp_path):
    root = put(tmp_path / "d", ["x1_t2.nii.gz"], ["x1_seg_reader1.nii.gz", "x1_seg_reader2.nii.gz"])
    manifest = index(root)
    assert pairs(manifest, root) == {"x1_t2.nii.gz": "x1_seg_reader1.nii.gz"}
    assert "several-labels" in by_name(manifest)["x1_t2.nii.gz"]["flags"]
