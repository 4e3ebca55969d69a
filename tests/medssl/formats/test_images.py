"""Plain pictures as scans: values, orientation, damage, and that they count only where there are no scans."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

import medssl
from medssl.errors import FormatError
from medssl.formats.nifti import write_nifti
from medssl.formats.reading import read, read_header
from medssl.geometry import to_canonical


def picture(seed: int, side: int = 96) -> np.ndarray:
    noise = np.random.default_rng(seed)
    smooth = sum(gaussian_filter(noise.standard_normal((side, side + 16)), s) * s for s in (1.5, 4, 9))
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255).astype(np.uint8)


def test_values_and_place(tmp_path):
    grey = picture(0)
    Image.fromarray(grey).save(tmp_path / "a.png")
    scan = read(tmp_path / "a.png")
    np.testing.assert_array_equal(scan.values[0], grey)
    assert read_header(tmp_path / "a.png").shape == scan.header.shape == (1, 96, 112)
    canonical, _ = to_canonical(scan.values, scan.header.affine)
    np.testing.assert_array_equal(canonical[0], grey[::-1, ::-1])
    deep = grey.astype(np.uint16) * 200
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read(tmp_path / "deep.png").values[0], deep)
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "c.tif")
    np.testing.assert_array_equal(read(tmp_path / "c.tif").values[0], grey)


def test_damage_is_named(tmp_path):
    (tmp_path / "text.png").write_text("<html>")
    with pytest.raises(FormatError, match="text"):
        read(tmp_path / "text.png")
    Image.fromarray(picture(1)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "short.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match="damaged"):
        read(tmp_path / "short.png")


def test_copies_among_pictures_are_found(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for n in range(6):
        Image.fromarray(picture(n)).save(folder / f"film{n}.png")
    first = picture(0)
    Image.fromarray(first).save(folder / "again.jpg", quality=80)
    Image.fromarray(zoom(first, 1.5, order=1)).save(folder / "large.png")
    Image.fromarray(first).save(folder / "same.tif")
    (folder / "bad.png").write_bytes(b"\x89PNG nothing")
    medssl.index(folder, out=tmp_path / "m.parquet", overrides=["modality=CR"])
    assert not [f for f in medssl.check(tmp_path / "m.parquet", out=tmp_path).findings if f.kind == "few-slices"]
    rules = ["planted=0", "pictures=2"]
    result = medssl.reduce(tmp_path / "m.parquet", out=tmp_path / "k.parquet", jobs=1, overrides=rules)
    rows = {row["id"]: row for row in result.manifest.rows()}
    copies = {"film0", "again", "large", "same"}
    assert len(result.kept) == 6
    assert sum(rows[name]["keep"] for name in copies) == 1
    assert len({rows[name]["representative"] for name in copies}) == 1
    for by in ("ssim", "mi", "hash", "kcentre"):
        given = [*rules, "thin=[train,val,test]"]
        some = medssl.reduce(
            tmp_path / "m.parquet", out=tmp_path / f"{by}.parquet", by=by, keep=4, jobs=1, overrides=given
        )
        assert len(some.kept) == 4


def test_beside_scans_they_are_screenshots(tmp_path):
    write_nifti(tmp_path / "scan.nii.gz", np.zeros((8, 8, 8), np.int16) + np.arange(8, dtype=np.int16), np.eye(4))
    Image.fromarray(picture(3)).save(tmp_path / "shot.png")
    manifest = medssl.index(tmp_path, out=tmp_path / "m.parquet", overrides=["modality=MR"]).manifest
    assert manifest.frame["id"].to_list() == ["scan"]
