"""Planes are cut where they should be, upright, and contours lie on the voxels that they outline."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from medssl.reporting.pictures import Volume, cut_planes, focus_of, grey_levels, picture_of_file


def pixels(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("L"))


def volume(shape=(20, 30, 40), spacing_mm=(2.0, 1.0, 1.0)):
    values = np.zeros(shape, np.float32)
    values[15:, :, :] = 1.0  # the head end is bright
    values[:, :, 30:] = 0.5  # the patient's right (x grows to the right)
    return Volume(values, spacing_mm, 0.0, 1.0)


def test_planes_are_upright_and_radiological():
    axial, coronal, sagittal = cut_planes(volume(), (5, 15, 20))
    assert (axial.width, axial.height) == (320, 240)
    assert coronal.height == pytest.approx(320)  # 20 slices of 2 mm are as tall as 40 voxels are wide
    assert sagittal.width / sagittal.height == pytest.approx(30 / 40, rel=0.01)
    shown = pixels(axial.source)
    assert shown[:, :60].mean() > 100  # right on the left
    assert shown[:, 100:].mean() < 20
    shown = pixels(coronal.source)
    assert shown[:60, 150:].mean() > 200  # head up
    assert shown[200:, 150:].mean() < 20
    assert axial.place == "z 6 of 20"


def corners(path):
    return np.array([[float(v) for v in pair.split()] for pair in re.findall(r"[\d.-]+ [\d.-]+", path)])


def test_contours_surround_their_voxels():
    mask = np.zeros((20, 30, 40), np.int16)
    mask[5, 10:20, 30:36] = 3
    mask[5, 2:4, 2:4] = 1
    axial, coronal, _ = cut_planes(volume(), (5, 15, 20), masks=[mask])
    assert axial.paths[0].count("M") == 2  # one border a structure
    right = corners(axial.paths[0])
    right = right[right[:, 0] < 160]
    pixel = 320 / 40
    # columns 30 to 35 of 40, mirrored: from 4 to 10 voxels from the left; rows 10 to 19 of 30: 10 to 20 from the top
    assert right[:, 0].min() == pytest.approx(4 * pixel, abs=0.1)
    assert right[:, 0].max() == pytest.approx(10 * pixel, abs=0.1)
    assert right[:, 1].min() == pytest.approx(10 * pixel, abs=0.1)
    assert right[:, 1].max() == pytest.approx(20 * pixel, abs=0.1)
    assert coronal.paths[0] != ""


def test_the_body_box_is_where_the_body_is():
    axial, *_ = cut_planes(volume(), (5, 15, 20), body=((0, 10, 30), (20, 20, 36)))
    assert axial.box == pytest.approx((32.0, 80.0, 48.0, 80.0), abs=0.2)
    outside, *_ = cut_planes(volume(), (5, 15, 20), body=((10, 10, 30), (20, 20, 36)))
    assert outside.box is None


def test_focus_is_where_most_is_marked():
    mask = np.zeros((40, 60, 60), np.int16)
    mask[10:20, 20:30, 20:30] = 1
    mask[12, 15:35, 15:35] = 1
    at, (first, last) = focus_of([mask, np.zeros_like(mask)], (1.0, 1.0, 1.0))
    assert at[0] == 12
    assert 0 <= first[0] <= 10
    assert last[0] >= 20
    assert focus_of([np.zeros_like(mask)], (1.0, 1.0, 1.0)) is None


def test_grey_levels():
    assert grey_levels(np.zeros((4, 4, 4)), hounsfield=True) == (-160.0, 240.0)
    low, high = grey_levels(np.linspace(0, 100, 1000).reshape(10, 10, 10), hounsfield=False)
    assert low == pytest.approx(0.5, abs=0.1)
    assert high == pytest.approx(99.5, abs=0.1)
    assert grey_levels(np.full((2, 2, 2), np.nan), hounsfield=False) == (0.0, 1.0)


def test_large_pictures_are_made_smaller(tmp_path):
    Image.new("RGB", (3000, 300), "white").save(tmp_path / "views.png")
    source, width, height = picture_of_file(tmp_path / "views.png")
    assert (width, height) == (1400, 140)
    assert pixels(source).shape == (140, 1400)
