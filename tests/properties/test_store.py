"""Laws of the store: any window equals the slice of the padded array, and integers come back bit for bit."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl import geometry
from medssl.store.body import find_body
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.options import StoreSettings
from medssl.store.prepare import scale_intensity
from medssl.store.read import Store
from medssl.store.write import foreground_coordinates

SHAPES = [(1, 1, 1), (5, 7, 3), (64, 64, 64), (65, 40, 70), (9, 130, 66)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    generator = np.random.default_rng(0)
    arrays = [generator.integers(-1024, 3072, shape).astype(np.int16) for shape in SHAPES]
    labels = [generator.integers(-1, 4, shape) for shape in SHAPES]
    items = [Item(id=f"s{i}", values=a, labels=b) for i, (a, b) in enumerate(zip(arrays, labels, strict=True))]
    return store_from_arrays(tmp_path_factory.mktemp("store"), items), arrays, labels


def padded_slice(array, origin, size, fill):
    """The window voxel by voxel through index arithmetic: slow, and nothing like the reader."""
    axes = [np.arange(o, o + s) for o, s in zip(origin, size, strict=True)]
    inside = [(a >= 0) & (a < n) for a, n in zip(axes, array.shape, strict=True)]
    found = array[np.ix_(*[np.clip(a, 0, n - 1) for a, n in zip(axes, array.shape, strict=True)])]
    all_inside = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    return np.where(all_inside, found, fill)


@settings(max_examples=30, deadline=None)
@given(
    row=st.integers(0, len(SHAPES) - 1),
    origin=st.tuples(*[st.integers(-40, 140)] * 3),
    size=st.tuples(*[st.integers(1, 90)] * 3),
)
def test_a_window_is_the_slice_of_the_padded_array(kept, row, origin, size):
    store, arrays, labels = kept
    window = store.window(row, origin, size)
    assert window.dtype == np.int16
    np.testing.assert_array_equal(window, padded_slice(arrays[row], origin, size, store.entries[row].fill))
    np.testing.assert_array_equal(store.label_window(row, origin, size), padded_slice(labels[row], origin, size, -1))


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 20)] * 3), seed=st.integers(0, 1000), wide=st.booleans())
def test_int16_comes_back_bit_for_bit(tmp_path_factory, shape, seed, wide):
    generator = np.random.default_rng(seed)
    values = generator.integers(-32768, 32768, shape)
    labels = generator.integers(0, 32768 if wide else 200, shape)
    folder = tmp_path_factory.mktemp("store")
    store_from_arrays(folder, [Item(id="a", values=values, labels=labels, affine=np.diag([1.0, 2.0, 3.0, 1.0]))])
    store = Store.open(folder)
    np.testing.assert_array_equal(store.values(0), values)
    np.testing.assert_array_equal(store.labels(0), labels)
    assert store.entries[0].spacing_mm == (3.0, 2.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 12)] * 3), seed=st.integers(0, 1000), limit=st.integers(1, 50))
def test_foreground_coordinates_lie_on_their_structure(shape, seed, limit):
    labels = np.random.default_rng(seed).integers(-1, 4, shape)
    found = foreground_coordinates(labels, limit=limit)
    assert sorted(found) == sorted(set(np.unique(labels)) - {-1, 0})
    for number, points in found.items():
        assert len(points) == min(limit, np.count_nonzero(labels == number))
        assert len(np.unique(points, axis=0)) == len(points)
        assert (labels[tuple(points.T)] == number).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), gain=st.floats(1e-3, 1e3), offset=st.floats(-1e4, 1e4))
def test_stored_intensities_give_back_physical_ones(seed, gain, offset):
    values = np.random.default_rng(seed).normal(size=(8, 9, 10)) * gain + offset
    box = (0, 0, 0), values.shape
    scaled = scale_intensity(values, box, hounsfield=False, settings=StoreSettings())
    physical = scaled.values * scaled.slope + scaled.intercept
    inside = (scaled.values > -32768) & (scaled.values < 32767)
    assert inside.all()
    np.testing.assert_allclose(physical, values, atol=0.51 * scaled.slope + 1e-9 * abs(offset))
    low, high = np.percentile(values, (0.5, 99.5))
    assert abs((low - scaled.intercept) / scaled.slope) < 1e-6 * 16384
    assert (high - scaled.intercept) / scaled.slope == pytest.approx(16384, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 40)] * 3), seed=st.integers(0, 1000), hounsfield=st.booleans())
def test_the_body_box_is_never_empty_and_inside(shape, seed, hounsfield):
    values = np.random.default_rng(seed).normal(scale=800.0, size=shape)
    low, high = find_body(values, hounsfield=hounsfield)
    assert all(0 <= a < b <= n for a, b, n in zip(low, high, shape, strict=True))


@pytest.mark.parametrize(("flips", "order"), list(itertools.product([(1, 1, 1), (-1, 1, -1)], [(0, 1, 2), (2, 0, 1)])))
def test_turning_keeps_every_voxel_in_its_place(flips, order):
    shape = (4, 5, 6)
    values = np.arange(np.prod(shape)).reshape(shape)
    affine = np.eye(4)
    affine[:3, :3] = (np.diag(flips) @ np.eye(3)[list(order)]) * [1.0, 2.0, 3.0]
    turned, turned_affine = geometry.to_canonical(values, affine)
    assert geometry.orientation(turned_affine) == "RAS"
    for z, y, x in [(0, 0, 0), (3, 4, 5), (1, 2, 3)]:
        point = affine @ [x, y, z, 1.0]
        there = np.rint(np.linalg.inv(turned_affine) @ point).astype(int)
        assert turned[there[2], there[1], there[0]] == values[z, y, x]
