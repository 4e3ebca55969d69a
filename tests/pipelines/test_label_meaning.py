"""From a tree with regions, ignored voxels and classes of test patients alone to predictions and their scores."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

import medssl
from medssl.errors import DataError
from medssl.exporting.nnunet import export_trained_model
from medssl.exporting.runs import exportable_of
from medssl.formats.nifti import write_nifti
from medssl.spreadsheet import rows_of_csv
from medssl.tasks.inference import InferenceSettings, prediction_file, probabilities_of
from medssl.tasks.segmenter import load_segmenter
from medssl.tasks.task_segmentation import MaskTest, ScanSegmentation
from medssl.tasks.truths import read_reference
from medssl.workflows.evaluate import evaluate
from medssl.workflows.finetune import finetune

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])
QUICK = [
    "segmentation.window=[8,8,8]", "train.steps=3", "train.log_every=1", "train.checkpoint_every=3",
    "train.threads=1", "train.accelerator=cpu", "train.batch_size=1", "encoder.name=unet", "encoder.channels=[4,8]",
]  # fmt: skip


def tree(root, names, values_of):
    """Write four CT scans, the last of them to test, and store them."""
    for number in range(4):
        part = "Ts" if number == 3 else "Tr"
        labels = values_of(number)
        noise = np.random.default_rng(number).normal(0, 30, labels.shape)
        write_nifti(root / f"images{part}" / f"c{number}_0000.nii.gz", (noise + 200 * labels).astype(np.int16), AFFINE)
        write_nifti(root / f"labels{part}" / f"c{number}.nii.gz", labels.astype(np.uint8), AFFINE)
    said = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": 3, **names}
    (root / "dataset.json").write_text(json.dumps(said))
    medssl.index(root, out=root.parent / "m.parquet", overrides=["val=0", "test=0"])
    return medssl.cache(root.parent / "m.parquet", out=root.parent / "store", overrides=["workers=1"]).store


def blocks(number):
    labels = np.zeros((10, 12, 11), int)
    labels[2:8, 2:9, 2:9], labels[3:7, 3:7, 3:7], labels[4:6, 4:6, 4:6] = 1, 2, 3
    labels[9] = 4
    return np.roll(labels, number, axis=2)


def test_regions_and_ignored_voxels_from_dataset_to_scores(tmp_path):
    names = {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4},
        "regions_class_order": [1, 2, 3],
    }
    store = tree(tmp_path / "d", names, blocks)
    run = finetune(data=store.folder, out=tmp_path / "run", overrides=[*QUICK, "inference.overlap=0.25"])
    task = load_segmenter(run.folder)
    assert [region.name for region in task.regions] == ["whole", "core", "active"]
    (test,) = [place for place, entry in enumerate(store.entries) if entry.split == "test"]
    entry = store.entries[test]

    # what was written is what the logits say
    with torch.no_grad():
        probabilities = probabilities_of(
            task.network, store, test, (8, 8, 8), InferenceSettings(overlap=0.25), output=task.output
        ).numpy()
    by_hand = np.zeros(entry.shape, int)
    for channel in range(3):
        by_hand[probabilities[channel] > 0.5] = channel + 1
    assert len(np.unique(by_hand)) > 1
    file = run.folder / "predictions" / prediction_file(entry.id)
    written = np.asarray(nib.load(file).dataobj).T
    sure = (np.abs(probabilities - 0.5) > 1e-4).all(axis=0)
    assert np.array_equal(written[sure], by_hand[sure])

    # scores are of the regions, ignored voxels left out
    truth = np.asarray(nib.load(tmp_path / "d/labelsTs/c3.nii.gz").dataobj).T
    found = evaluate(run.folder, data=store.folder, overrides=["workers=1"])
    wide = found.table.frame.pivot("metric", index="target", values="value")
    scores = wide.rows_by_key("target", named=True, unique=True)
    assert set(scores) == {"whole", "core", "active"}
    known = truth != 4
    for name, values in (("whole", (1, 2, 3)), ("core", (2, 3)), ("active", (3,))):
        a, b = np.isin(truth, values) & known, np.isin(written, values) & known
        assert scores[name]["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert scores[name]["truth_voxels"] == a.sum()
    by_manifest = evaluate(run.folder, data=tmp_path / "m.parquet", out=tmp_path / "again", overrides=["workers=1"])
    assert by_manifest.table.frame.equals(found.table.frame)

    # an export says what its channels are
    model = exportable_of(run.folder)
    assert model.classes == ("whole", "core", "active")
    assert [region["written"] for region in model.description()["regions"]] == [1, 2, 3]
    export_trained_model(model, tmp_path / "nnunet")
    said = json.loads((tmp_path / "nnunet" / "dataset.json").read_text())
    assert said["labels"] == {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": [3]}
    assert said["regions_class_order"] == [1, 2, 3]


def test_a_class_of_test_patients_alone_is_said_and_marked(tmp_path, capsys):
    def values_of(number):
        labels = np.where(blocks(0) == 4, 0, blocks(0))
        return np.select([labels == 3], [9], labels) if number == 3 else np.minimum(labels, 2)

    store = tree(tmp_path / "d", {"labels": {"background": 0, "a": 1, "b": 2, "rare": 9}}, values_of)
    run = finetune(data=store.folder, out=tmp_path / "run", overrides=QUICK)
    said = " ".join(capsys.readouterr().out.split())
    assert "no scan to train on shows rare: it cannot be learned" in said
    evaluate(run.folder, data=store.folder, overrides=["workers=1"])
    told = capsys.readouterr()
    assert "no scan that it was trained on shows rare" in " ".join(told.err.split())
    assert "rare (untrained)" in told.out
    scores = json.loads((run.folder / "scores.json").read_text())
    assert scores["runs"]["run"]["untrained"] == ["rare"]

    drawn = store.subset([entry.id for entry in store.entries if entry.split == "train"])
    test = MaskTest(reference=read_reference(store.folder), structures={1: "a", 9: "rare"}, tolerance_mm={}, workers=1)
    (line,) = ScanSegmentation().doubts(test, drawn)
    assert line.startswith("no labelled scan to train on shows rare:")

    # predictions are in the values of the labels, 9 and not 3, and a value that nobody named is refused
    file = next((run.folder / "predictions").glob("*.nii.gz"))
    image = nib.load(file)
    values = np.asarray(image.dataobj)
    assert set(np.unique(values)) <= {0, 1, 2, 9}
    values[0, 0, 0] = 7
    nib.save(nib.Nifti1Image(values, image.affine), file)
    with pytest.raises(DataError, match=r"holds \[7\]"):
        evaluate(run.folder, data=store.folder, overrides=["workers=1"])


def test_labels_that_the_store_refused_are_told_of_by_finetune(tmp_path, capsys):
    def values_of(number):
        labels = np.where(blocks(0) == 4, 0, np.minimum(blocks(0), 2))
        if number == 1:
            labels[0, 0, :8] = 7
        return labels

    store = tree(tmp_path / "d", {"labels": {"background": 0, "a": 1, "b": 2}}, values_of)
    assert list(store.refused_labels) == ["c1_0000"]
    capsys.readouterr()
    finetune(data=store.folder, out=tmp_path / "run", overrides=QUICK, dry_run=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "1 labelled scans are left out, for the store refused their labels (label-stray): c1_0000" in said


def test_regions_are_whole_in_tables_and_in_a_seg_of_new_scans(tmp_path):
    """A region's volume and its segment hold what a later region was written over."""
    import highdicom as hd
    import pydicom

    from medssl.formats.dicom_write import write_series

    names = {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3},
        "regions_class_order": [1, 2, 3],
    }
    store = tree(tmp_path / "d", names, lambda number: np.where(blocks(number) == 4, 0, blocks(number)))
    run = finetune(data=store.folder, out=tmp_path / "run", overrides=[*QUICK, "train.steps=30"], predict=[])
    values = np.asarray(nib.load(tmp_path / "d/imagesTs/c3_0000.nii.gz").dataobj).T
    files = write_series(tmp_path / "series", values, AFFINE, name="s")
    write_nifti(tmp_path / "plain.nii.gz", values, AFFINE)
    wanted = ["modality=CT", "probabilities=true", "uncertainty=true"]
    plain = medssl.predict(run.folder, tmp_path / "plain.nii.gz", out=tmp_path / "o1", overrides=wanted)
    paths = plain.files["plain"]
    assert [path.name.removeprefix("plain") for path in paths] == [
        ".nii.gz", ".probability-1-whole.nii.gz", ".probability-2-core.nii.gz", ".probability-3-active.nii.gz",
        ".uncertainty.nii.gz",
    ]  # fmt: skip
    labels, *chances, unsure = (np.asarray(nib.load(path).dataobj).T for path in paths)
    by_hand = np.zeros(labels.shape, int)
    for number, chance in enumerate(chances, start=1):
        by_hand[chance > 0.5] = number
    assert np.array_equal(labels, by_hand)
    assert (labels > 1).any()
    each = [-(p * np.log2(p) + (1 - p) * np.log2(1 - p)) for p in (np.clip(c, 1e-7, 1 - 1e-7) for c in chances)]
    np.testing.assert_allclose(unsure, np.max(each, axis=0), atol=1e-4)

    members = {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)}
    with (tmp_path / "o1/predictions.csv").open() as file:
        (row,) = rows_of_csv(file)
    for name, numbers in members.items():
        assert float(row[f"ml_{name}"]) == pytest.approx(np.isin(labels, numbers).sum() * 3.0 / 1000, abs=1e-4)
    assert json.loads((tmp_path / "o1/labels.json").read_text())["regions"] == {k: list(v) for k, v in members.items()}

    found = medssl.predict(run.folder, tmp_path / "series", out=tmp_path / "o2", overrides=["modality=CT"])
    seg = hd.seg.segread(found.files[found.done[0]][0])
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in files]
    masks = seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True)
    for number in seg.segment_numbers:
        name = seg.get_segment_description(number).segment_label
        assert np.array_equal(masks[..., number - 1] > 0, np.isin(labels, members[name])), name
