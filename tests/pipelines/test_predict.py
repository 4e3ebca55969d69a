"""``medssl predict``: new files as the store's test scans, to the bit; geometry, names, what fails and what differs."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch

import medssl
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.formats.dicom_write import write_series
from medssl.formats.itk import write_itk
from medssl.formats.nifti import write_nifti
from medssl.randomness import numpy_generator
from medssl.spreadsheet import rows_of_csv
from medssl.workflows.cache import cache
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.predict import predict
from medssl.workflows.predict_table import write_table

QUICK = [
    "segmentation.window=[16,16,16]", "train.steps=4", "train.log_every=2", "train.checkpoint_every=100",
    "train.threads=1", "train.accelerator=cpu", "inference.overlap=0.25", "encoder.name=unet",
    "encoder.channels=[4,8]",
]  # fmt: skip
TURNED = np.array([[0.0, 0.0, 2.0, -10.0], [-1.1, 0.0, 0.0, 20.0], [0.0, 1.3, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


def scan(number: int, shape=(18, 20, 17)) -> tuple[np.ndarray, np.ndarray]:
    """Return HU of soft tissue in air with two bright boxes, and their labels, (z, y, x)."""
    values = numpy_generator(3, number).normal(0, 20, shape)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[4:12, 5:14, 3:9], labels[5:11, 6:12, 10:15] = 1, 2
    values += np.select([labels == 1, labels == 2], [400, 800], 0)
    values[:, :2] = values[:, -2:] = -1000
    return values.astype(np.int16), labels


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of labelled scans on several grids, its store and a segmenter of it."""
    home = tmp_path_factory.mktemp("predict")
    affines = {n: np.diag([1.0, 1.2, 1.5, 1.0]) for n in range(6)} | {5: TURNED}
    rows = []
    for number, affine in affines.items():
        values, labels = scan(number)
        write_nifti(home / f"scans/p{number}.nii.gz", values, affine)
        write_nifti(home / f"labels/p{number}.nii.gz", labels, affine)
        rows.append(f"scans/p{number}.nii.gz,labels/p{number}.nii.gz,p{number},{'test' if number > 3 else 'train'}")
    (home / "list.csv").write_text("\n".join(["path,label,patient,split", *rows]) + "\n")
    index(home / "list.csv", out=home / "m.parquet", overrides=["modality=CT"])
    cache(home / "m.parquet", out=home / "store", overrides=["workers=1", "spacing_mm=[1.5,1.2,1.2]", "crop=true"])
    finetune(data=home / "store", out=home / "run", overrides=QUICK)
    return home


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["id"]: row for row in rows_of_csv(file)}


def test_new_files_are_predicted_as_the_test_scans_of_the_store(home, tmp_path, capsys):
    for number in (4, 5):
        path = tmp_path / "new" / f"p{number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((home / f"scans/p{number}.nii.gz").read_bytes())
    found = predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    assert set(found.done) == {"p4", "p5"}
    for number in (4, 5):
        ours = nib.load(tmp_path / f"out/p{number}.nii.gz")
        theirs = nib.load(sorted((home / "run/predictions").glob(f"*p{number}.nii.gz"))[0])
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
        source = nib.load(home / f"scans/p{number}.nii.gz")
        np.testing.assert_allclose(ours.affine, source.affine, atol=1e-5)
        assert ours.shape == source.shape
    said = capsys.readouterr().out
    assert "2 scans done, 0 failed, 0 skipped" in said
    assert json.loads((tmp_path / "out/labels.json").read_text())["labels"]["0"] == "background"
    assert table(tmp_path / "out")["p4"]["status"] == "done"


def close(one, two) -> None:
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_every_format_is_answered_on_its_own_grid(home, tmp_path):
    """Rotated, sheared, flat, NRRD, MetaImage, DICOM: read back by libraries that did not write them."""
    import SimpleITK as sitk

    new = tmp_path / "new"
    values, _ = scan(9)
    angle = np.array([[0.9, -0.3, 0.1], [0.3, 0.9, -0.2], [0.0, 0.2, 0.95]])
    rotated = np.eye(4)
    rotated[:3, :3] = np.linalg.qr(angle)[0] * np.array([1.0, 1.4, 2.2])
    sheared = np.array([[1.0, 0, 0.3, 3], [0, 1.2, 0, 4], [0, 0, 1.5, 5], [0, 0, 0, 1.0]])
    write_nifti(new / "rotated.nii.gz", values, rotated)
    write_nifti(new / "sheared.nii.gz", values, sheared)
    write_nifti(new / "flat.nii.gz", values[8:9], np.diag([1.1, 1.2, 4.0, 1.0]))
    write_itk(new / "turned.nrrd", values, TURNED)
    write_itk(new / "meta.mha", values, rotated)
    write_series(new / "series", values, np.diag([1.0, 1.2, 1.5, 1.0]), name="s")
    found = predict(home / "run", new, out=tmp_path / "out", overrides=["modality=CT"])
    assert len(found.done) == 6
    assert not found.failed
    for name, affine in (("rotated", rotated), ("sheared", sheared), ("flat", np.diag([1.1, 1.2, 4.0, 1.0]))):
        image, source = nib.load(tmp_path / f"out/{name}.nii.gz"), nib.load(new / f"{name}.nii.gz")
        close(image.affine, affine)
        assert image.shape == source.shape
    for name in ("turned.nrrd", "meta.mha"):
        ours, source = sitk.ReadImage(str(tmp_path / "out" / name)), sitk.ReadImage(str(new / name))
        for fact in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
            close(getattr(ours, fact)(), getattr(source, fact)())
    # where the network sees bright tissue it does so in any format: the same voxels in NIfTI and NRRD
    write_nifti(tmp_path / "again/turned.nii.gz", values, TURNED)
    predict(home / "run", tmp_path / "again", out=tmp_path / "out2")
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out/turned.nrrd"))),
        np.asarray(nib.load(tmp_path / "out2/turned.nii.gz").dataobj).transpose(2, 1, 0),
    )


@pytest.mark.parametrize("upside", [False, True])
def test_a_series_is_answered_with_a_seg_that_refers_to_it(home, tmp_path, upside):
    import highdicom as hd
    import pydicom

    values, _ = scan(9)
    affine = np.diag([-1.0, 1.2, -1.5 if upside else 1.5, 1.0])
    files = write_series(tmp_path / "new/series", values, affine, name="s")
    write_nifti(tmp_path / "plain/p.nii.gz", values, affine)
    found = predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    plain = predict(home / "run", tmp_path / "plain/p.nii.gz", out=tmp_path / "out2")
    (file,) = found.files[found.done[0]]
    assert file.suffix == ".dcm"
    seg, first = hd.seg.segread(file), pydicom.dcmread(files[0])
    assert seg.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert seg.StudyInstanceUID == first.StudyInstanceUID
    assert seg.PatientID == first.PatientID
    assert {s.segment_label for s in (seg.get_segment_description(n) for n in seg.segment_numbers)} == {
        "structure 1", "structure 2"
    }  # fmt: skip
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in files]
    frames = seg.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True,
                                               assert_missing_frames_are_empty=True)  # fmt: skip
    expected = np.asarray(nib.load(plain.files["p"][0]).dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(frames, expected)
    assert expected.any()


def test_what_is_wrong_is_named_counted_and_stops_nothing(home, tmp_path, capsys):
    new = tmp_path / "new"
    values, labels = scan(9)
    write_nifti(new / "good.nii.gz", values, np.eye(4))
    (new / "broken.nii.gz").write_bytes(b"\x1f\x8b no gzip at all")
    nan = values.astype(np.float32)
    nan[0, 0, 0] = np.nan
    write_nifti(new / "nan.nii.gz", nan, np.eye(4))
    write_nifti(new / "good_seg.nii.gz", labels, np.eye(4))
    found = predict(home / "run", new, out=tmp_path / "out")
    assert found.done == ("good",)
    assert set(found.failed) == {"broken", "nan"}
    assert "NaN" in found.failed["nan"]
    assert "accept=" not in found.failed["nan"]  # which is a setting of cache
    out = capsys.readouterr()
    assert "1 scan done, 2 failed" in out.out
    assert "broken.nii.gz" in out.err
    rows = table(tmp_path / "out")
    assert rows["broken"]["status"] == "failed"
    assert rows["broken"]["reason"]
    assert str(tmp_path) not in (tmp_path / "out/predictions.csv").read_text()
    (new / "good.nii.gz").unlink()
    with pytest.raises(DataError, match="none of the 2 scans could be predicted"):
        predict(home / "run", new, out=tmp_path / "out2")


def test_a_file_is_read_by_another_process_which_it_may_kill(home, tmp_path, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt("read in the process that predicts")

    values, _ = scan(9)
    write_nifti(tmp_path / "new/a.nii.gz", values, np.eye(4))
    monkeypatch.setattr("medssl.store.prepare.read_source", dies)
    assert predict(home / "run", tmp_path / "new", out=tmp_path / "out").done == ("a",)


def test_the_table_computes_nothing_and_holds_no_place(home, tmp_path, monkeypatch):
    values, _ = scan(9)
    write_nifti(tmp_path / "new/=1+1.nii.gz", values, np.eye(4))
    write_nifti(tmp_path / "new/-tail.nii.gz", values, np.eye(4))

    def odd(*_):
        raise ValueError(f"{tmp_path}/new/sub/thing is odd")

    predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    text = (tmp_path / "out/predictions.csv").read_text()
    assert "=1+1" not in text
    assert str(tmp_path) not in text
    write_table(tmp_path / "cells.csv", [{"id": "=1+1", "status": "done", "ml_x": "-2"}], "csv")
    assert "\n'=1+1,done,,,,-2\n" in (tmp_path / "cells.csv").read_text()
    predict(home / "run", tmp_path / "new", out=tmp_path / "named", overrides=["privacy=paths"])
    sources = {Path(row["source"]).name for row in table(tmp_path / "named").values()}
    assert sources == {"=1+1.nii.gz", "-tail.nii.gz"}
    monkeypatch.setattr("medssl.volumes.predicting.scan_differences", odd)
    with pytest.raises(DataError, match="none of the 2"):
        predict(home / "run", tmp_path / "new", out=tmp_path / "other")
    for name in ("predictions.csv", "journal.jsonl"):
        kept = (tmp_path / "other" / name).read_text()
        assert "is odd" in kept
        assert str(tmp_path) not in kept


def test_with_pseudonyms_nothing_names_the_patient(home, tmp_path):
    values, _ = scan(9)
    write_nifti(tmp_path / "new/JANE_DOE/JANE_DOE.nii.gz", values, np.eye(4))
    (tmp_path / "new/JANE_DOE/JANE_DOE_b.nii.gz").write_bytes(b"nothing")
    write_series(tmp_path / "new/JANE_DICOM", values, np.diag([1.0, 1.2, 1.5, 1.0]))
    for file in (tmp_path / "new/JANE_DICOM").iterdir():
        header = pydicom.dcmread(file)
        header.PatientName = "JANE^DOE"
        header.save_as(file)
    index(tmp_path / "new", out=tmp_path / "n.parquet", overrides=["privacy=pseudonyms", "modality=CT", "workers=1"])
    found = predict(home / "run", tmp_path / "n.parquet", out=tmp_path / "out")
    assert (len(found.done), len(found.failed)) == (2, 1)
    assert sorted(file.suffix for file in (tmp_path / "out").glob("scan-*")) == [".gz", ".gz"]
    assert "a DICOM SEG names the patient" in (tmp_path / "out/predictions.csv").read_text()
    for file in (tmp_path / "out").rglob("*"):
        assert "JANE" not in str(file.relative_to(tmp_path))
        content = file.read_bytes()
        assert b"JANE" not in content
        assert str(tmp_path).encode() not in content


def test_what_differs_from_training_is_said(home, tmp_path, capsys):
    values, _ = scan(9)
    write_nifti(tmp_path / "new/thick.nii.gz", values, np.diag([1.0, 1.2, 9.0, 1.0]))
    write_nifti(tmp_path / "new/scaled.nii.gz", (values / 2000.0).astype(np.float32), np.diag([-1.0, 1.2, 1.5, 1.0]))
    predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    rows = table(tmp_path / "out")
    assert "voxels of 9 x 1.2 x 1 mm (z, y, x); trained on 1.5 x 1.2 x 1" in rows["thick"]["differs"]
    assert "intensity scale" in rows["scaled"]["differs"]
    assert "orientation LAS; trained on" in rows["scaled"]["differs"]
    assert "thick.nii.gz: " in capsys.readouterr().out


def test_a_second_call_does_nothing_twice_and_a_mended_file_is_done(home, tmp_path, capsys, monkeypatch):
    import medssl.volumes.predicting

    values, _ = scan(9)
    write_nifti(tmp_path / "new/a.nii.gz", values, np.eye(4))
    (tmp_path / "new/b.nii.gz").write_bytes(b"nothing")
    predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    before = (tmp_path / "out/a.nii.gz").stat().st_mtime_ns
    write_nifti(tmp_path / "new/b.nii.gz", values[::-1], np.eye(4))
    made = []
    whole = medssl.volumes.predicting.ScanWorker.prepare
    monkeypatch.setattr(
        medssl.volumes.predicting.ScanWorker,
        "prepare",
        lambda self, item, folder: made.append(item.id) or whole(self, item, folder),
    )
    capsys.readouterr()
    found = predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    assert made == ["b"]
    assert set(found.done) == {"a", "b"}
    assert "2 scans done (1 of them by an earlier call)" in capsys.readouterr().out
    assert (tmp_path / "out/a.nii.gz").stat().st_mtime_ns == before
    write_nifti(tmp_path / "new/a.nii.gz", values[:, ::-1], np.eye(4))  # another scan of the same name
    predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    assert made == ["b", "a"]
    (tmp_path / "out/b.nii.gz").unlink()
    predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    assert made == ["b", "a", "b"]


def test_a_journal_that_was_cut_off_loses_its_last_line_alone(home, tmp_path):
    values, _ = scan(9)
    for name in ("a", "b"):
        write_nifti(tmp_path / f"new/{name}.nii.gz", values, np.eye(4))
    predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    journal = tmp_path / "out/journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    found = predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    assert set(found.done) == {"a", "b"}
    assert set(table(tmp_path / "out")) == {"a", "b"}


@pytest.mark.parametrize("left", [b"", b'{"ver', b'{"version": 1, "made_w'])
def test_a_journal_that_the_disk_had_no_room_for_stops_nobody(home, tmp_path, left):
    values, _ = scan(9)
    write_nifti(tmp_path / "new/a.nii.gz", values, np.eye(4))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/journal.jsonl").write_bytes(left)
    assert predict(home / "run", tmp_path / "new", out=tmp_path / "out").done == ("a",)
    assert predict(home / "run", tmp_path / "new", out=tmp_path / "out").done == ("a",)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/journal.jsonl").write_bytes(b"dear diary")
    with pytest.raises(ConfigError, match="no journal of predictions"):
        predict(home / "run", tmp_path / "new", out=tmp_path / "other")


def test_nothing_of_the_users_is_written_over(home, tmp_path):
    values, _ = scan(9)
    write_nifti(tmp_path / "new/a.nii.gz", values, np.eye(4))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds what predict did not write"):
        predict(home / "run", tmp_path / "new", out=tmp_path / "out")
    predict(home / "run", tmp_path / "new", out=tmp_path / "out2")
    write_nifti(tmp_path / "new/b.nii.gz", values, np.eye(4))
    (tmp_path / "out2/b.nii.gz").write_text("mine")
    found = predict(home / "run", tmp_path / "new", out=tmp_path / "out2")
    assert "is not of predict" in found.failed["b"]
    assert (tmp_path / "out2/b.nii.gz").read_text() == "mine"
    with pytest.raises(ConfigError, match="of another run or of other settings"):
        predict(home / "run", tmp_path / "new", out=tmp_path / "out2", overrides=["overlap=0.5"])
    predict(home / "run", tmp_path / "new/a.nii.gz", out=tmp_path / "out2", overrides=["overlap=0.5"], overwrite=True)
    assert (tmp_path / "out2/b.nii.gz").read_text() == "mine"


def test_two_files_of_one_name_stay_two(home, tmp_path):
    for place in ("one", "two"):
        values, _ = scan(9 if place == "one" else 8)
        write_nifti(tmp_path / place / "scan.nii.gz", values, np.eye(4))
    found = predict(home / "run", tmp_path / "one", tmp_path / "two", out=tmp_path / "out")
    assert len({path for files in found.files.values() for path in files}) == 2
    again = predict(home / "run", tmp_path / "two", tmp_path / "one", out=tmp_path / "out")
    assert again.files == found.files


def test_probabilities_and_uncertainty_lie_beside_the_label_map(home, tmp_path):
    values, _ = scan(9)
    write_nifti(tmp_path / "new/a.nii.gz", values, TURNED)
    wanted = ["probabilities=true", "uncertainty=true"]
    found = predict(home / "run", tmp_path / "new", out=tmp_path / "out", overrides=wanted)
    maps = [np.asarray(nib.load(path).dataobj) for path in found.files["a"]]
    assert [path.name for path in found.files["a"]] == [
        "a.nii.gz", "a.probability-1-structure_1.nii.gz", "a.probability-2-structure_2.nii.gz", "a.uncertainty.nii.gz"
    ]  # fmt: skip
    labels, first, second, unsure = maps
    rest = 1 - first - second
    inside = first + second > 0
    expected = np.stack([rest, first, second]).argmax(axis=0)
    top = np.sort(np.stack([rest, first, second]), axis=0)
    clear = inside & (top[-1] - top[-2] > 1e-4)
    np.testing.assert_array_equal(labels[clear], expected[clear])
    entropy = -sum(p * np.log(np.clip(p, 1e-12, None)) for p in (rest, first, second)) / np.log(3)
    np.testing.assert_allclose(unsure[inside], entropy[inside], atol=1e-4)


def test_several_runs_are_averaged_and_unlike_ones_refused(home, tmp_path):
    finetune(data=home / "store", out=tmp_path / "second", overrides=[*QUICK, "train.seed=5"])
    values, _ = scan(9)
    write_nifti(tmp_path / "new/a.nii.gz", values, np.diag([1.2, 1.2, 1.5, 1.0]))
    runs = [home / "run", tmp_path / "second"]
    each = [medssl.load_model(run).predict(tmp_path / "new/a.nii.gz") for run in runs]
    mean = medssl.load_model(runs).predict(tmp_path / "new/a.nii.gz")
    np.testing.assert_allclose(mean.probabilities, (each[0].probabilities + each[1].probabilities) / 2, atol=1e-6)
    found = predict(runs, tmp_path / "new", out=tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(nib.load(found.files["a"][0]).dataobj).transpose(2, 1, 0), mean.labels)
    cache(home / "m.parquet", out=tmp_path / "other", overrides=["workers=1"])
    finetune(data=tmp_path / "other", out=tmp_path / "third", overrides=QUICK, predict=[])
    with pytest.raises(ConfigError, match="store settings differ"):
        predict([home / "run", tmp_path / "third"], tmp_path / "new", out=tmp_path / "out2")


def test_mirroring_is_what_training_flipped(home, tmp_path):
    values, _ = scan(9)
    write_nifti(tmp_path / "a.nii.gz", values, np.eye(4))
    with pytest.raises(ConfigError, match="trained without flips"):
        predict(home / "run", tmp_path / "a.nii.gz", out=tmp_path / "out", overrides=["mirror=true"])


def test_a_pretraining_run_names_the_next_command(home, tmp_path):
    from medssl.encoders.table import build_encoder
    from medssl.engine.card import Card, save_encoder

    torch.manual_seed(0)
    encoder = build_encoder({"name": "unet", "channels": [4, 8]})
    card = Card(encoder=encoder.settings.model_dump(mode="json"), in_channels=1, channels=encoder.channels,
                strides=encoder.strides, method={"name": "voco"})  # fmt: skip
    (tmp_path / "pre").mkdir()
    save_encoder(encoder, card, tmp_path / "pre")
    with pytest.raises(CheckpointError, match=r"medssl finetune .*pre --data STORE"):
        predict(tmp_path / "pre", home / "scans", out=tmp_path / "out")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/run.yaml").write_text("transfer: {}\n")
    with pytest.raises(CheckpointError, match=r"medssl finetune --out .*begun --resume; or .*begun --finish"):
        predict(tmp_path / "begun", home / "scans", out=tmp_path / "out")


def test_arrays_and_files_are_one_to_python(home, tmp_path):
    values, _ = scan(9)
    write_nifti(tmp_path / "a.nii.gz", values, np.diag([1.0, 1.2, 1.5, 1.0]))
    model = medssl.load_model(home / "run")
    of_file, of_array = model.predict(tmp_path / "a.nii.gz"), model.predict(values, spacing_mm=(1.5, 1.2, 1.0))
    np.testing.assert_array_equal(of_file.probabilities, of_array.probabilities)
    np.testing.assert_array_equal(of_file.labels, of_array.labels)
    assert of_file.labels.shape == values.shape
    with pytest.raises(ConfigError, match="Say the voxel size"):
        model.predict(values)
    with pytest.raises(ConfigError, match="takes an array"):
        model.predict(np.stack([values, values]), spacing_mm=(1, 1, 1))
    for wrong in ((1, 1), (1, 1, 0), (1, 1, np.nan)):
        with pytest.raises(ConfigError, match="spacing_mm"):
            model.predict(values, spacing_mm=wrong)
    with pytest.raises(ConfigError, match="affine: 4x4"):
        model.predict(values, affine=np.eye(3))
    with pytest.raises(DataError, match="The array cannot be predicted"):
        model.predict(np.full(values.shape, np.nan), spacing_mm=(1, 1, 1))


def test_a_manifest_and_a_csv_are_taken(home, tmp_path):
    found = predict(home / "run", home / "m.parquet", out=tmp_path / "out")
    assert len(found.done) == 6
    (tmp_path / "list.csv").write_text(f"path\n{home / 'scans/p1.nii.gz'}\n{home / 'scans/p2.nii.gz'}\n")
    listed = predict(home / "run", tmp_path / "list.csv", out=tmp_path / "out2", overrides=["modality=CT"])
    assert len(listed.done) == 2


def test_other_programs_say_the_same_of_a_whole_scan(home, tmp_path):
    """The exported ONNX network in MONAI's own windows, and the bundle with its own preparation of the file."""
    import onnxruntime
    from monai.bundle import ConfigParser
    from monai.inferers import sliding_window_inference

    values, _ = scan(9, (24, 26, 22))
    write_nifti(tmp_path / "new/a.nii.gz", values, np.diag([-1.2, -1.2, 1.5, 1.0]))
    ours = medssl.load_model(home / "run", overrides=["overlap=0.5"]).predict(tmp_path / "new/a.nii.gz")
    medssl.export(home / "run", to="onnx", out=tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {name: images.numpy()})[0]))

    turned = torch.from_numpy(values[:, ::-1, ::-1].copy()).float()
    image = ((turned + 1000) / 2000).clamp(0, 1)[None, None]
    logits = sliding_window_inference(image, (16, 16, 16), 1, run, overlap=0.5, mode="gaussian")
    np.testing.assert_allclose(ours.probabilities, torch.softmax(logits, dim=1)[0].numpy(), atol=1e-4)
    medssl.export(home / "run", to="monai", out=tmp_path / "bundle")
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "bundle/configs/inference.json"))
    parser.update({"bundle_root": str(tmp_path / "bundle"), "device": "$torch.device('cpu')",
                   "dataset_dir": str(tmp_path / "new"), "output_dir": str(tmp_path / "eval"),
                   "inferer#overlap": 0.5})  # fmt: skip
    parser.get_parsed_content("run")
    theirs = np.asarray(nib.load(next((tmp_path / "eval").rglob("*.nii.gz"))).dataobj).reshape(values.shape[::-1])
    top = np.sort(ours.probabilities, axis=0)[:, :, ::-1, ::-1]
    sure = top[-1] - top[-2] > 1e-2
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(theirs.transpose(2, 1, 0)[sure], ours.labels[sure])


def test_files_are_read_in_worker_processes_alone(home, tmp_path, monkeypatch):
    def here(*_, **__):
        raise AssertionError("a file of the user's was read in the process of predict")

    monkeypatch.setattr("medssl.store.prepare.read_source", here)
    path = home / "scans/p4.nii.gz"
    assert predict(home / "run", path, out=tmp_path / "out").done == ("p4",)
    assert medssl.load_model(home / "run").predict(path).labels.shape == (18, 20, 17)


def test_its_own_masks_are_no_scans_and_names_stay_out_of_what_it_writes(home, tmp_path, capsys):
    new = tmp_path / "new"
    for place in ("ZZJANE/p.nii.gz", "ZZJOHN/p.nii.gz", "=cmd.nii.gz"):
        (new / place).parent.mkdir(parents=True, exist_ok=True)
        (new / place).write_bytes((home / "scans/p4.nii.gz").read_bytes())
    for place in ("ZZJANE/bad.nii.gz", "ZZJOHN/bad.nii.gz"):
        (new / place).write_bytes(b"")
    many = [new / "ZZJANE", new / "ZZJOHN", new / "=cmd.nii.gz"]
    first = predict(home / "run", *many, out=new / "masks", overrides=["probabilities=true"])
    assert len(first.done) == 3
    assert len(first.failed) == 2  # of one name in two folders
    said = "".join((new / "masks" / name).read_text() for name in ("predictions.csv", "journal.jsonl"))
    assert "ZZ" not in said
    assert str(tmp_path) not in said
    capsys.readouterr()
    second = predict(home / "run", new, out=tmp_path / "out", overrides=["privacy=paths", "device=cpu"])
    assert len(second.done) == 3
    assert "medssl wrote them: masks" in capsys.readouterr().out
    assert str(new / "=cmd.nii.gz") in (tmp_path / "out/predictions.csv").read_text()
