"""What is in a label: read right, stored right, or refused aloud; compared with nibabel and plain numpy."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

import medssl
from medssl.manifest.check import check_manifest
from medssl.manifest.schema import read_manifest, write_manifest
from tests.layouts.tree import SPACING_ZYX, by_name, index, label, voxels, write

SHAPE = (8, 12, 10)


def cohort(root, labels, *, names=None, images=None):
    """Write an nnU-Net tree of CT scans c0, c1, ... with these labels, and index it."""
    for number, values in enumerate(labels):
        write(root / "imagesTr" / f"c{number}_0000.nii.gz", images[number] if images else voxels(number))
        if isinstance(values, np.ndarray):
            write_any(root / "labelsTr" / f"c{number}.nii.gz", values)
        elif values is not None:
            values(root / "labelsTr" / f"c{number}.nii.gz")
    said = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": len(labels)}
    (root / "dataset.json").write_text(json.dumps(said | (names or {"labels": {"background": 0, "a": 1, "b": 2}})))
    return index(root, "val=0", "test=0")


def write_any(path, values):
    """Write (z, y, x), or (frame, z, y, x) as a fourth axis."""
    if values.ndim == 3:
        return write(path, values)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.transpose(3, 2, 1, 0), np.diag([*SPACING_ZYX[::-1], 1.0])), path)
    return path


def cache(manifest, folder, *settings):
    file = folder / "manifest.parquet"
    write_manifest(manifest, file)
    return medssl.cache(file, out=folder / "store", overrides=["workers=1", *settings]).store


def stored(store, name="c0_0000"):
    places = {entry.id: place for place, entry in enumerate(store.entries)}
    return store.labels(places[name])


def kinds(manifest):
    return {(f.severity, f.kind, f.scan) for f in check_manifest(manifest).findings if "label" in f.kind}


def counted(values):
    return {int(v): int(n) for v, n in zip(*np.unique(values, return_counts=True), strict=True)}


def said(row):
    return dict(zip(row["label_values"], row["label_voxels"], strict=True))


def row_of(manifest, number=0):
    return by_name(manifest)[f"imagesTr/c{number}_0000.nii.gz"]


def as_masks(values, count=3):
    return np.stack([(values == k).astype(np.uint8) for k in range(count)])


def test_one_hot_channels_are_classes(tmp_path):
    truth = label(1)
    manifest = cohort(tmp_path / "d", [as_masks(truth)])
    on_disk = np.asarray(nib.load(tmp_path / "d/labelsTr/c0.nii.gz").dataobj)  # (x, y, z, channel)
    assert np.array_equal(on_disk.argmax(axis=3).T, truth)
    assert said(row_of(manifest)) == counted(truth)
    assert any("channel 1 is 1 (a)" in note for note in row_of(manifest)["notes"])
    assert np.array_equal(stored(cache(manifest, tmp_path)), truth)


def test_masks_a_channel_without_background_are_classes(tmp_path):
    truth = label(1)
    manifest = cohort(tmp_path / "d", [as_masks(truth)[1:]])
    assert np.array_equal(stored(cache(manifest, tmp_path)), truth)


def soft(values):
    return np.stack([0.1 + 0.7 * (values == k) for k in range(3)]).astype(np.float32)


def overlapping(values):
    masks = as_masks(values)[1:]
    masks[1] |= masks[0]
    return masks


@pytest.mark.parametrize(("make", "word"), [(soft, "probabilities"), (overlapping, "several channels")])
def test_channels_that_are_no_classes_are_refused(tmp_path, make, word):
    manifest = cohort(tmp_path / "d", [make(label(1)), label(2)])
    assert ("error", "label-frames", "c0_0000") in kinds(manifest)
    store = cache(manifest, tmp_path)
    assert word in store.refused_labels["c0_0000"]
    assert [entry.label_file is None for entry in store.entries] == [True, False]


@pytest.mark.parametrize("frame", [0, 2])
def test_a_frame_of_a_film_takes_its_own_label(tmp_path, frame):
    film = np.stack([voxels(n) for n in range(3)])
    labels = np.stack([label(n) for n in range(3)])
    write_any(tmp_path / "d" / "images" / "a.nii.gz", film)
    write_any(tmp_path / "d" / "labels" / "a.nii.gz", labels)
    store = cache(index(tmp_path / "d", "modality=MR"), tmp_path, f"frame={frame}")
    assert np.array_equal(store.labels(0), labels[frame])


def masks_of(values, names, *, moved=()):
    """Return a writer of a folder of one mask a structure."""

    def write_folder(path):
        for name, mask in zip(names, values, strict=True):
            spacing = (3.0, 1.5, 2.0) if name in moved else SPACING_ZYX
            write(path / f"{name}.nii.gz", mask.astype(np.uint8), spacing)

    return write_folder


def listed(root, folders):
    """Write scans and folders of masks, and a CSV that names both."""
    lines = ["path,label,patient,modality"]
    for number, make in enumerate(folders):
        write(root / f"p{number}" / "ct.nii.gz", voxels(number))
        make(root / f"p{number}" / "segmentations")
        lines.append(f"p{number}/ct.nii.gz,p{number}/segmentations,p{number},CT")
    (root / "scans.csv").write_text("\n".join(lines))
    medssl.index(root / "scans.csv", out=root / "m.parquet", overrides=["val=0", "test=0"])
    return read_manifest(root / "m.parquet")


def test_a_folder_of_masks_is_numbered_by_name_for_the_whole_cohort(tmp_path):
    liver, spleen = label(1) == 1, label(1) == 2
    kidney = label(3) == 1
    spleen = spleen | np.roll(liver, 2, axis=1)  # larger than the liver, and over it
    manifest = listed(tmp_path, [masks_of([liver, spleen], ["liver", "spleen"]), masks_of([kidney], ["kidney"])])
    assert manifest.classes == {0: "background", 1: "kidney", 2: "liver", 3: "spleen"}
    rows = {row["patient"]: row for row in manifest.rows()}
    both = int((liver & spleen).sum())
    small, large = sorted([(int(liver.sum()), 2), (int(spleen.sum()), 3)])
    assert both > 0
    assert said(rows["p0"])[small[1]] == small[0]  # the smaller structure keeps what both claim
    assert said(rows["p0"])[large[1]] == large[0] - both
    assert any(f"overlap in {both} voxels" in note for note in rows["p0"]["notes"])
    store = cache(manifest, tmp_path)
    found = {entry.patient: store.labels(place) for place, entry in enumerate(store.entries)}
    assert np.array_equal(found["p1"] == 1, kidney)
    assert np.array_equal(found["p0"] == small[1], liver if small[1] == 2 else spleen)
    # names, not bytes alone, decide: swapped masks are another label
    first, second = tmp_path / "p0/segmentations/liver.nii.gz", tmp_path / "p0/segmentations/spleen.nii.gz"
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    assert [f.kind for f in check_manifest(manifest).findings if f.kind == "changed"] == ["changed"]
    again = cache(manifest, tmp_path)
    swapped = {entry.patient: again.labels(place) for place, entry in enumerate(again.entries)}["p0"]
    assert np.array_equal(swapped == (3 if small[1] == 2 else 2), liver if small[1] == 2 else spleen)


def test_masks_of_different_grids_are_refused_by_name(tmp_path):
    parts = [label(1) == 1, label(1) == 2]
    manifest = listed(tmp_path, [masks_of(parts, ["liver", "spleen"], moved=("spleen",)), masks_of(parts, ["a", "b"])])
    refused = cache(manifest, tmp_path).refused_labels
    assert len(refused) == 1
    assert "spleen.nii.gz lies on another grid than liver.nii.gz" in next(iter(refused.values()))


def test_ignore_is_not_known_and_no_class(tmp_path):
    values = label(1)
    values[0] = 3
    names = {"labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}}
    manifest = cohort(tmp_path / "d", [values], names=names)
    assert (manifest.classes, manifest.ignored) == ({0: "background", 1: "a", 2: "b"}, (3,))
    write_manifest(manifest, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").ignored == (3,)
    assert said(row_of(manifest)) == {k: n for k, n in counted(values).items() if k != 3}
    store = cache(manifest, tmp_path)
    assert np.array_equal(stored(store, "c0_0000"), np.where(values == 3, -1, values.astype(int)))
    assert store.ignored == (3,)
    assert set(store.classes) == {0, 1, 2}
    assert store.structures_in(0) == {1, 2}


def test_a_label_of_another_grid_is_refused_unless_accepted(tmp_path):
    def moved(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        affine = np.diag([*SPACING_ZYX[::-1], 1.0])
        affine[0, 3] = 2.0
        nib.save(nib.Nifti1Image(label(1).T, affine), path)

    manifest = cohort(tmp_path / "d", [moved, label(2)])
    assert ("error", "label-affine-differs", "c0_0000") in kinds(manifest)
    store = cache(manifest, tmp_path)
    assert "2.00 mm" in store.refused_labels["c0_0000"]
    assert "accept=[label-affine-differs]" in store.refused_labels["c0_0000"]
    taken = cache(manifest, tmp_path, "accept=[label-affine-differs]")
    assert taken.refused_labels == {}
    expected = np.zeros(SHAPE, int)
    expected[:, :, 2:] = label(1)[:, :, :-2]  # 2 mm are two voxels along x
    assert np.array_equal(stored(taken, "c0_0000"), expected)


@pytest.mark.parametrize("codes", ["LPS", "LAI", "SRA"])
def test_other_axis_orders_are_exact_and_say_nothing(tmp_path, codes):
    def turned(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = nib.Nifti1Image(label(1).T, np.diag([*SPACING_ZYX[::-1], 1.0]))
        to = nib.orientations.ornt_transform(nib.io_orientation(plain.affine), nib.orientations.axcodes2ornt(codes))
        nib.save(plain.as_reoriented(to), path)

    manifest = cohort(tmp_path / "d", [turned])
    assert kinds(manifest) == set()
    assert np.array_equal(stored(cache(manifest, tmp_path), "c0_0000"), label(1))


def test_a_stray_value_is_a_finding_and_no_structure(tmp_path):
    labels = [label(n) for n in range(6)]
    labels[4][0, 0, :8] = 7
    manifest = cohort(tmp_path / "d", labels)
    assert kinds(manifest) == {("error", "label-stray", "c4_0000")}
    store = cache(manifest, tmp_path)
    assert set(store.classes) == {0, 1, 2}
    assert "7 in 8 voxels" in store.refused_labels["c4_0000"]
    taken = cache(manifest, tmp_path, "accept=[label-stray]")
    assert set(taken.classes) == {0, 1, 2}
    assert np.array_equal(stored(taken, "c4_0000"), np.where(labels[4] == 7, -1, labels[4].astype(int)))


def test_without_names_a_few_voxels_of_one_scan_are_stray_and_a_structure_is_not(tmp_path):
    labels = [label(n) for n in range(6)]
    labels[2][0, 0, :8] = 7
    labels[3][6:] = 5  # one scan shows it, and shows it well
    manifest = cohort(tmp_path / "d", labels, names={"labels": {}})
    assert {k for k in kinds(manifest) if k[1] == "label-stray"} == {("error", "label-stray", "c2_0000")}
    # the same where the index read headers alone
    medssl.index(tmp_path / "d", out=tmp_path / "h.parquet", overrides=["depth=header", "val=0", "test=0"])
    store = medssl.cache(tmp_path / "h.parquet", out=tmp_path / "headers", overrides=["workers=1"]).store
    assert set(store.classes) == {0, 1, 2, 5}
    assert list(store.refused_labels) == ["c2_0000"]


def test_scans_and_labels_that_check_calls_wrong_are_refused_and_named(tmp_path, capsys):
    images = [voxels(n) for n in range(5)]
    images[1][0, 0, :3] = np.nan
    images[2][:] = 4.0
    negative, image_itself = label(3).astype(np.int16), np.rint(voxels(4)).astype(np.float32)
    negative[0, 0, 0] = -2
    images[4] = image_itself
    image_as_label = image_itself
    manifest = cohort(tmp_path / "d", [label(0), label(1), label(2), negative, image_as_label], images=images)
    store = cache(manifest, tmp_path)
    assert sorted(store.failed) == ["c1_0000", "c2_0000"]
    assert {scan: why.partition(":")[0] for scan, why in store.refused_labels.items()} == {
        "c3_0000": "label-negative", "c4_0000": "label-is-image",
    }  # fmt: skip
    spoken = " ".join(capsys.readouterr().err.split())
    assert "1 scans were left out (nonfinite): c1_0000. accept=[nonfinite]" in spoken
    assert "1 scans were left out (constant): c2_0000." in spoken
    taken = cache(manifest, tmp_path, "accept=[nonfinite,constant,label-negative]")
    assert taken.failed == {}
    assert stored(taken, "c3_0000")[0, 0, 0] == -1
    assert list(taken.refused_labels) == ["c4_0000"]


def test_a_label_of_several_patients_is_refused(tmp_path):
    write(tmp_path / "l.nii.gz", label(0))
    for name in ("a", "b"):
        write(tmp_path / f"{name}.nii.gz", voxels(ord(name)))
    (tmp_path / "s.csv").write_text("path,label,patient\na.nii.gz,l.nii.gz,a\nb.nii.gz,l.nii.gz,b\n")
    medssl.index(tmp_path / "s.csv", out=tmp_path / "m.parquet", overrides=["modality=MR"])
    manifest = read_manifest(tmp_path / "m.parquet")
    assert any(k[:2] == ("error", "label-shared") for k in kinds(manifest))
    assert len(cache(manifest, tmp_path).refused_labels) == 2
    assert cache(manifest, tmp_path, "accept=[label-shared]").refused_labels == {}


def test_a_mask_of_0_and_255_is_class_1_and_said(tmp_path, capsys):
    mask = (label(1) == 1).astype(np.uint8)
    manifest = cohort(tmp_path / "d", [mask * 255, mask], names={"labels": {"background": 0, "a": 1}})
    assert said(row_of(manifest)) == counted(mask)
    store = cache(manifest, tmp_path)
    assert "255 is read as 1" in " ".join(capsys.readouterr().out.split())
    assert np.array_equal(stored(store, "c0_0000"), mask)
    assert set(store.classes) == {0, 1}


def test_255_stays_what_the_data_set_calls_it(tmp_path):
    values = label(1)
    values[0] = 255
    ignoring = cohort(tmp_path / "d", [values], names={"labels": {"background": 0, "a": 1, "b": 2, "ignore": 255}})
    assert (stored(cache(ignoring, tmp_path), "c0_0000")[0] == -1).all()
    naming = cohort(tmp_path / "e", [values], names={"labels": {"background": 0, "a": 1, "b": 2, "rim": 255}})
    (tmp_path / "2").mkdir()
    assert (stored(cache(naming, tmp_path / "2"), "c0_0000")[0] == 255).all()


def grey(values):
    return np.array([0, 63, 127, 255], np.uint8)[np.minimum(values + (values == 2), 3)]


def odd_255(values):
    return np.where(values == 2, 255, values).astype(np.uint8)


def with_nan(values):
    return np.where(values == 2, np.nan, values).astype(np.float32)


def halves(values):
    return (values / 2).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(grey, "label-grey-levels"), (odd_255, "label-grey-levels"), (with_nan, "label-non-integer"),
     (halves, "label-non-integer")],
)  # fmt: skip
def test_values_that_are_no_classes_are_refused(tmp_path, make, kind):
    manifest = cohort(tmp_path / "d", [make(label(1)), label(2)])
    assert ("error", kind, "c0_0000") in kinds(manifest)
    assert cache(manifest, tmp_path).refused_labels["c0_0000"].startswith(kind)


def test_more_than_a_thousand_classes_are_an_image(tmp_path):
    shape = (12, 12, 12)
    values = np.arange(12**3, dtype=np.int32).reshape(shape)
    manifest = cohort(tmp_path / "d", [values], images=[voxels(0, shape)])
    assert ("error", "label-non-integer", "c0_0000") in kinds(manifest)


def test_rounding_is_mended_and_said(tmp_path):
    values = label(1).astype(np.float32) + np.float32(1e-5)
    manifest = cohort(tmp_path / "d", [values])
    assert ("info", "label-understood", "c0_0000") in kinds(manifest)
    assert np.array_equal(stored(cache(manifest, tmp_path), "c0_0000"), label(1))


def test_an_empty_label_is_stored_and_told(tmp_path):
    manifest = cohort(tmp_path / "d", [np.zeros(SHAPE, np.uint8), label(1)])
    assert ("warning", "label-empty", "c0_0000") in kinds(manifest)
    assert not stored(cache(manifest, tmp_path), "c0_0000").any()


def test_a_label_that_is_gone_leaves_the_scan(tmp_path):
    write(tmp_path / "a.nii.gz", voxels(0))
    (tmp_path / "s.csv").write_text("path,label\na.nii.gz,gone.nii.gz\n")
    medssl.index(tmp_path / "s.csv", out=tmp_path / "m.parquet", overrides=["modality=MR"])
    manifest = read_manifest(tmp_path / "m.parquet")
    (row,) = manifest.rows()
    assert row["error"] is None
    assert "label-unreadable" in row["flags"]
    store = cache(manifest, tmp_path)
    assert len(store) == 1
    assert store.entries[0].label_file is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"0": "background", "1": "a", "4": "b"}, {0: "background", 1: "a", 4: "b"}),
        ({"background": 0, "a": 1, "b": 4}, {0: "background", 1: "a", 4: "b"}),
        ({"background": "0", "a": "1", "b": "4"}, {0: "background", 1: "a", 4: "b"}),
        ({"a": 1, "b": 4}, {1: "a", 4: "b"}),
        ({"1": "a", "2": "a"}, {1: "a", 2: "a 2"}),
        ({"a": 1, "A": 1}, {1: "a"}),
        ({"a": True, "b": 2.0, "c": "x"}, {2: "b"}),
    ],
)
def test_names_in_both_directions(tmp_path, labels, expected):
    manifest = cohort(tmp_path / "d", [label(1)], names={"labels": labels})
    assert manifest.classes == expected


def test_regions_keep_names_values_and_order(tmp_path):
    names = {
        "labels": {"background": 0, "whole": [1, [2, 3]], "core": ["2", 3], "active": 3, "ignore": 4},
        "regions_class_order": [1, 2, 3],
    }
    manifest = cohort(tmp_path / "d", [label(1)], names=names)
    assert [(r.name, r.values, r.written) for r in manifest.regions] == [
        ("whole", (1, 2, 3), 1), ("core", (2, 3), 2), ("active", (3,), 3),
    ]  # fmt: skip
    assert manifest.ignored == (4,)
    assert manifest.classes == {0: "background", 1: "structure 1", 2: "structure 2", 3: "active"}
    for name in ("m.csv", "m.parquet"):
        write_manifest(manifest, tmp_path / name)
        assert read_manifest(tmp_path / name).regions == manifest.regions
    assert cache(manifest, tmp_path).regions == manifest.regions
