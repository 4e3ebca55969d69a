"""``medssl predict``: new files as the store's test scans, to the bit; geometry, names, what fails and what differs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.formats.nifti import write_nifti
from medssl.randomness import numpy_generator
from pipelines.cache import cache
from pipelines.finetune import finetune
from pipelines.index import index
from pipelines.predict import predict

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
    with (folder / "predictions.csv").open() as file:
        return {row["id"]: row for row in csv.DictReader(file)}


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
