"""Whatever is written reads back: random values, types, shapes and grids, in each format."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medssl import formats, geometry
from medssl.formats.arrays import write_npz
from medssl.formats.dicom_write import write_multiframe, write_series
from medssl.formats.itk import write_itk
from medssl.formats.nifti import write_nifti

WRITERS = {
    "scan.nii": write_nifti,
    "scan.nii.gz": write_nifti,
    "scan.mha": write_itk,
    "scan.nrrd": write_itk,
    "scan.npz": write_npz,
    "series": write_series,
    "scan.dcm": write_multiframe,
}


@st.composite
def grids(draw) -> np.ndarray:
    turn = Rotation.from_euler("xyz", [draw(st.floats(-180, 180)) for _ in range(3)], degrees=True).as_matrix()
    sizes = [draw(st.floats(0.3, 6.0)) * draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(sizes)
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=8, deadline=None)
@given(
    affine=grids(),
    shape=st.tuples(*[st.integers(2, 6)] * 3),
    dtype=st.sampled_from(["int16", "uint8"]),
    seed=st.integers(0, 9),
)
def test_round_trip(name: str, affine: np.ndarray, shape: tuple[int, int, int], dtype: str, seed: int) -> None:
    info = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        WRITERS[name](path, values, affine)
        scan = formats.read(path)
        assert formats.read_header(path).dtype == scan.values.dtype.name
    if geometry.to_index(affine, geometry.to_world(scan.header.affine, (0, 0, 0)))[0] > 0.5:
        # DICOM slices are sorted along the normal, which may run against the z axis of the array that was written.
        flip = np.diag([1.0, 1.0, -1.0, 1.0])
        flip[2, 3] = shape[0] - 1
        values, affine = values[::-1], affine @ flip
        assert name in ("series", "scan.dcm")
    np.testing.assert_allclose(scan.header.affine, affine, atol=2e-4)
    np.testing.assert_array_equal(scan.values, values)
