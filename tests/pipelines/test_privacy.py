"""Names of patients in folders, files, headers and tables go no further than the manifest and the table beside it."""

from __future__ import annotations

import json
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

import blosc2
import nibabel as nib
import numpy as np
import polars as pl
import pytest

import medssl
from medssl.manifest.schema import read_manifest
from medssl.store.read import Store
from tests.layouts import dicom_tree

MARK = "ZZMARKER"
QUICK = [
    "train.batch_size=2", "train.warmup=0", "train.accelerator=cpu", "train.threads=1", "train.precision=32-true",
    "train.checkpoint_every=100", "train.log_every=2", "train.steps=4",
]  # fmt: skip
UNET = ["encoder.name=unet", "encoder.channels=[4,8]", "encoder.blocks=1", "method.window=[16,16,16]"]


def scans_with_names(folder: Path, count: int = 8) -> Path:
    """Write scans in which everything that can hold a name does: folders, files, headers and a table."""
    rng = np.random.default_rng(0)
    lines = ["patient,diagnosis"]
    for number in range(count):
        home = folder / f"{MARK}^JOHN {number:02d}" / f"{MARK} visit"
        home.mkdir(parents=True)
        values = rng.normal(100, 20, (18, 18, 18)).astype(np.float32)
        label = np.zeros(values.shape, np.uint8)
        label[4 + number % 3 : 12, 5:12, 5:12] = 1
        values[label > 0] += 150
        image = nib.Nifti1Image(values, np.diag([1.5, 1.5, 1.5, 1]))
        image.header["descrip"] = f"{MARK} descrip"
        image.header["intent_name"] = f"{MARK}"
        nib.save(image, home / f"{MARK}_JOHN_{number:02d}_t1.nii.gz")
        nib.save(nib.Nifti1Image(label, image.affine), home / f"{MARK}_JOHN_{number:02d}_t1_seg.nii.gz")
        lines.append(f"{MARK}_JOHN_{number:02d},{'sick' if number % 2 else 'well'}")
    for place in range(6):
        slice_of = dicom_tree.image(
            dicom_tree.voxels(1)[place], modality="MR", patient=f"{MARK}99", instance=place,
            position=(0.0, 0.0, 3.0 * place), PatientName=f"{MARK}^JANE", SeriesDescription=f"t1 {MARK}",
            StudyDescription=f"{MARK} study", InstitutionName=f"{MARK} clinic", ProtocolName=f"{MARK}",
            Manufacturer=f"{MARK} scanners", ImageComments=MARK, AccessionNumber=f"{MARK}1", SequenceName=f"{MARK}s",
        )  # fmt: skip
        dicom_tree.save(slice_of, folder / f"{MARK}^JANE" / f"{MARK}_{place}.dcm")
    (folder / f"{MARK}_broken.nii.gz").write_bytes(b"\x1f\x8b" + bytes(99))
    (folder / "classes.csv").write_text("\n".join(lines) + "\n")
    return folder


def everything(file: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, and those that its packing hides."""
    raw = file.read_bytes()
    yield raw
    yield str(file).encode()
    if file.suffix == ".parquet":
        yield json.dumps(pl.read_parquet(file).to_dicts(), default=str).encode()
        yield json.dumps(pl.read_parquet_metadata(file), default=str).encode()
    elif file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            yield b"".join(name.encode() + np.asarray(arrays[name]).tobytes() for name in arrays)
            yield " ".join(str(word) for name in arrays for word in np.ravel(arrays[name])[:999]).encode()
    elif file.suffix == ".b2nd":
        opened = blosc2.open(str(file), mode="r")
        yield str(dict(opened.schunk.vlmeta[:])).encode() + opened[:].tobytes()
    elif file.suffix == ".gz":
        yield zlib.decompress(raw, wbits=31)
    elif file.suffix == ".pt":
        import zipfile

        with zipfile.ZipFile(file) as archive:
            yield b"".join(name.encode() + archive.read(name) for name in archive.namelist())
    # Pictures, alone and in pages: texts of PNG may be packed, each in a chunk of its own.
    for packed in re.finditer(rb"(?:zTXt|iTXt)(.{1,4096})", raw, re.DOTALL) if file.suffix == ".png" else ():
        start = packed[1].find(b"\0") + 2
        yield zlib.decompressobj().decompress(packed[1][start:])


def holders(folder: Path, *words: str) -> dict[str, str]:
    """Return the files that hold one of the words, with what stands about it."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        for content in everything(file):
            for word in words:
                at = content.find(word.encode())
                wide = content.find(word.encode("utf-16-le")) if at < 0 else at
                if wide >= 0 and content != str(file).encode():
                    found[str(file.relative_to(folder))] = repr(content[max(0, wide - 80) : wide + 80])
                elif wide >= 0 and word in str(file.relative_to(folder)):
                    found[str(file.relative_to(folder))] = "its name"
    return found


def chain(scans: Path, out: Path, *settings: str) -> Path:
    """Run all verbs, each as a user would; return the folder of what they wrote besides the manifests."""
    made = out / "made"
    found, kept = out / "found.parquet", out / "kept.parquet"
    medssl.index(scans, out=found, overrides=[
        f"targets={scans / 'classes.csv'}", "test=0.3", "val=0.15", "workers=1", *settings,
    ])  # fmt: skip
    medssl.check(found, out=made / "check.html")
    medssl.reduce(found, out=kept, index=made / "prints", overrides=["workers=1", "planted=0", "pictures=2"])
    for name in ("kept.html", "kept.pairs.csv"):
        (out / name).rename(made / name)
    medssl.check_split(kept, out=made / "split.html", index=made / "prints")
    medssl.cache(kept, out=made / "store", overrides=["workers=1"])
    medssl.pretrain(method="mae", data=made / "store", out=made / "run",
                    overrides=[*QUICK, *UNET, "method.name=masked", "method.patch=[4,4,4]"])  # fmt: skip
    medssl.finetune(made / "run", data=made / "store", out=made / "fine",
                    overrides=[*QUICK, "segmentation.window=[16,16,16]"])  # fmt: skip
    # One label that is gone: the reason is told, and kept without its name.
    rows = [row for row in read_manifest(kept).rows() if row["split"] == "test" and row["label_path"]]
    label = Path(rows[0]["label_path"])
    label.rename(label.with_suffix(".away"))
    scored = medssl.evaluate(made / "fine", data=made / "store", out=made / "scores", overrides=["workers=1"])
    label.with_suffix(".away").rename(label)
    assert sum(len(one) for one in scored.failed.values()) == 1
    medssl.evaluate(made / "fine", data=made / "store", overrides=["workers=1"])
    medssl.report(made / "run", made / "fine", made / "store", found, kept, out=made / "report.html")
    medssl.embed(made / "run", data=made / "store", out=made / "vectors.parquet", overrides=["device=cpu"])
    medssl.embed(made / "run", data=made / "store", out=made / "vectors.npz", overrides=["device=cpu"])
    new = [path.parent for path in scans.rglob("*.nii.gz") if "visit" in str(path)] if not settings else [kept]
    medssl.predict(made / "fine", *new[:2], out=made / "predicted", overrides=["device=cpu", "workers=1"])
    for target in ("onnx", "monai", "nnunet", "safetensors"):
        medssl.export(made / "fine", to=target, out=made / f"as_{target}")
    return made


@pytest.mark.slow
def test_with_pseudonyms_names_are_in_the_table_and_in_the_paths_of_the_manifest_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = scans_with_names(tmp_path / f"{MARK} clinic")
    made = chain(scans, tmp_path / "out", "privacy=pseudonyms")
    left = holders(made, MARK, str(tmp_path))
    assert not left, "\n".join(f"{name}: {text}" for name, text in left.items())
    held = holders(tmp_path / "out", MARK)
    assert set(held) == {"found.parquet", "found.pseudonyms.json", "kept.parquet"}
    table = tmp_path / "out" / "found.pseudonyms.json"
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    for name in ("found.parquet", "kept.parquet"):
        frame = read_manifest(tmp_path / "out" / name).frame
        for column in sorted(set(frame.columns) - {"path", "paths", "label_path"}):
            assert MARK not in json.dumps(frame[column].to_list(), default=str), column
    assert len(Store.open(made / "store")) == 9
    said = "".join(capsys.readouterr()).splitlines()
    # A terminal may name the one file that is to be put back.
    assert [line for line in said if MARK in line and "The label map does not exist" not in line] == []


@pytest.mark.slow
def test_without_pseudonyms_no_path_leaves_the_manifest(tmp_path: Path) -> None:
    scans = scans_with_names(tmp_path / f"{MARK} clinic")
    made = chain(scans, tmp_path / "out")
    # Ids are made of names; folders, whole file names and places are not kept.
    left = holders(made, f"{MARK} clinic", f"{MARK} visit", f"{MARK}^J", str(tmp_path))
    assert not left, "\n".join(f"{name}: {text}" for name, text in left.items())
    assert set(holders(tmp_path / "out", str(tmp_path))) == {"found.parquet", "kept.parquet"}


def test_pseudonyms_are_stable_and_equal_under_one_salt(tmp_path: Path) -> None:
    scans = scans_with_names(tmp_path / "d", 3)
    salt = f"salt={tmp_path / 'salt'}"
    first = medssl.index(
        scans, out=tmp_path / "a.parquet", overrides=["privacy=pseudonyms", salt, "workers=1"]
    ).manifest
    assert stat.S_IMODE((tmp_path / "salt").stat().st_mode) == 0o600
    again = medssl.index(scans, out=tmp_path / "a.parquet", overrides=["workers=1"]).manifest  # pseudonyms stay
    assert again.frame.drop("mtime_ns").equals(first.frame.drop("mtime_ns"))
    other = medssl.index(
        scans, out=tmp_path / "b.parquet", overrides=["privacy=pseudonyms", salt, "workers=1"]
    ).manifest
    assert other.frame["patient"].to_list() == first.frame["patient"].to_list()
    apart = medssl.index(scans, out=tmp_path / "c.parquet", overrides=["privacy=pseudonyms", "workers=1"]).manifest
    assert not set(apart.frame["patient"]) & set(first.frame["patient"])
    names = json.loads((tmp_path / "a.pseudonyms.json").read_text())["names"]
    plain = medssl.index(scans, out=tmp_path / "d.parquet", overrides=["workers=1"]).manifest
    assert sorted(names[one] for one in first.frame["patient"]) == sorted(plain.frame["patient"])
    assert sorted(names[one] for one in first.frame["id"]) == sorted(plain.frame["id"])
    undone = medssl.index(scans, out=tmp_path / "a.parquet", overrides=["privacy=names", "workers=1"]).manifest
    assert undone.frame["id"].to_list() == plain.frame["id"].to_list()


def test_a_table_that_is_gone_is_asked_for(tmp_path: Path) -> None:
    scans = scans_with_names(tmp_path / "d", 2)
    medssl.index(scans, out=tmp_path / "a.parquet", overrides=["privacy=pseudonyms", "workers=1"])
    (tmp_path / "a.pseudonyms.json").unlink()
    with pytest.raises(medssl.errors.ManifestError, match=r"a.pseudonyms.json is not there.*fresh=true"):
        medssl.index(scans, out=tmp_path / "a.parquet", overrides=["workers=1"])
