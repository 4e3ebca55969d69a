"""The two grids of a store: voxels of one size, and nnU-Net's stretched to whole ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from medssl import geometry
from medssl.phantoms import write_cohort
from medssl.store.options import StoreSettings
from medssl.store.read import Store
from medssl.store.regrid import regridded
from medssl.store.resample import to_shape, to_spacing
from medssl.workflows.cache import cache
from medssl.workflows.index import index

AFFINE = np.array([[1.5, 0, 0, -20], [0, 1.2, 0, 7], [0, 0, 3.0, 11], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [(9, 21, 30), (31, 11, 12), (14, 20, 24)])
def test_stretching_is_what_nnunet_stretches_with(order: int, shape: tuple[int, int, int]) -> None:
    """nnU-Net calls skimage's ``resize`` with ``mode="edge"`` and without smoothing; it does not blur, ours neither."""
    values = np.random.default_rng(0).normal(0, 100, (14, 20, 24)).astype(np.float32)
    ours, affine = to_shape(values, AFFINE, shape, order=order)
    theirs = resize(values.astype(float), shape, order, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    for corner, far in (((-0.5,) * 3, (-0.5,) * 3), (np.array(values.shape) - 0.5, np.array(shape) - 0.5)):
        np.testing.assert_allclose(geometry.to_world(AFFINE, corner), geometry.to_world(affine, far), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(5, 40)] * 3), st.tuples(*[st.floats(0.5, 5.0)] * 3))
def test_nnunets_grid_has_nnunets_shape_and_the_faces_of_its_box(inside, spacing) -> None:
    values = np.zeros([n + 5 for n in inside], np.float32)
    box = tuple(slice(2, 2 + n) for n in inside)
    values[box] = 1 + np.random.default_rng(0).random(inside)
    made = StoreSettings(grid="nnunet")
    found, _, affine = regridded({"": values}, None, AFFINE, spacing, made, hounsfield=[])
    old = geometry.spacing_mm(AFFINE)
    wanted = [max(1, round(i / j * k)) for i, j, k in zip(old, spacing, inside, strict=True)]
    assert list(found[""].shape) == wanted
    for mine, files in (((-0.5,) * 3, (1.5,) * 3), (np.array(wanted) - 0.5, np.array(inside) + 1.5)):
        np.testing.assert_allclose(geometry.to_world(affine, mine), geometry.to_world(AFFINE, files), atol=1e-6)


def test_channels_and_label_share_the_box_and_hounsfield_are_clipped_before_they_are_interpolated() -> None:
    generator = np.random.default_rng(1)
    ct, other = np.zeros((12, 14, 16), np.int16), np.zeros((12, 14, 16), np.float32)
    ct[3:9, 4:10, 5:12] = generator.integers(-3000, 9000, (6, 6, 7))
    other[2:8, 4:10, 5:12] = 1
    labels = (ct > 0).astype(np.int16)
    made = StoreSettings(grid="nnunet", hu_range=(-100, 300))
    found, known, _ = regridded({"ct": ct, "pt": other}, labels, AFFINE, (3.0, 0.7, 0.9), made, hounsfield=["ct"])
    box = (slice(2, 9), slice(4, 10), slice(5, 12))
    clipped, _ = to_shape(ct[box].clip(-100, 300), AFFINE, found["ct"].shape, order=3)
    np.testing.assert_array_equal(found["ct"], clipped)
    assert found["pt"].shape == known.shape == found["ct"].shape
    assert set(np.unique(known)) == {0, 1}


def test_the_other_grid_is_as_it_was() -> None:
    values = np.random.default_rng(2).normal(0, 1, (12, 14, 16)).astype(np.float32)
    found, labels, affine = regridded({"": values}, None, AFFINE, (2.0, 2.0, 2.0), StoreSettings(), hounsfield=[])
    wanted, grid = to_spacing(values, AFFINE, (2.0, 2.0, 2.0), order=3)
    np.testing.assert_array_equal(found[""], wanted)
    np.testing.assert_array_equal(affine, grid)
    assert labels is None


def test_a_store_on_nnunets_grid_is_another_store_and_the_same_one_twice(tmp_path) -> None:
    write_cohort(tmp_path / "data", subjects=2, shape=(12, 14, 16))
    index(tmp_path / "data", out=tmp_path / "m.parquet")
    kept = [[e.shape for e in _cached(tmp_path, grid)] for grid in ("spacing", "nnunet", "nnunet")]
    assert kept[0] == kept[1] == kept[2]
    spacings = [_cached(tmp_path, grid)[0].spacing_mm for grid in ("spacing", "nnunet")]
    np.testing.assert_allclose(spacings[0], (7.0, 7.0, 7.0))
    np.testing.assert_allclose(spacings[1], [n * 5.0 / m for n, m in zip((12, 14, 16), kept[1][0], strict=True)])


def _cached(folder, grid):
    cache(folder / "m.parquet", out=folder / "store", overrides=[f"grid={grid}", "spacing_mm=[7,7,7]"])
    return Store.open(folder / "store").entries
