"""Laws of geometry, for oblique, flipped, anisotropic and sheared grids."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medssl import geometry

SETTINGS = settings(max_examples=30, deadline=None)
shapes = st.tuples(*[st.integers(1, 7)] * 3)
sizes = st.tuples(*[st.floats(0.3, 6.0)] * 3)


@st.composite
def affines(draw, *, shear: bool = False) -> np.ndarray:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [draw(st.floats(-180, 180)) for _ in range(3)], degrees=True).as_matrix()
    flips = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    affine[:3, :3] = turn @ np.diag(np.array(draw(sizes)) * flips)
    if shear:
        affine[:3, 2] += draw(st.floats(-0.4, 0.4)) * affine[:3, 1]
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


@SETTINGS
@given(affines(shear=True), shapes)
def test_turning_keeps_every_voxel_in_its_place(affine: np.ndarray, shape: tuple[int, int, int]) -> None:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    world = geometry.to_world(affine, index)  # (z, y, x, 3): each voxel's own place, turned along with it
    turned_number, turned = geometry.to_canonical(np.arange(np.prod(shape)).reshape(shape), affine)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in turned_number.shape], indexing="ij"), axis=-1)
    expected = world.reshape(-1, 3)[turned_number.reshape(-1)]
    np.testing.assert_allclose(geometry.to_world(turned, places).reshape(-1, 3), expected, atol=1e-8)
    assert geometry.orientation(turned) == "RAS"


@SETTINGS
@given(affines(), shapes)
def test_turning_twice_is_turning_once(affine: np.ndarray, shape: tuple[int, int, int]) -> None:
    once, affine_once = geometry.to_canonical(np.arange(np.prod(shape)).reshape(shape), affine)
    twice, affine_twice = geometry.to_canonical(once, affine_once)
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(affine_once, affine_twice)


@SETTINGS
@given(affines(shear=True))
def test_itk_and_back(affine: np.ndarray) -> None:
    np.testing.assert_allclose(geometry.affine_from_itk(*geometry.itk_from_affine(affine)), affine, atol=1e-9)


@SETTINGS
@given(affines(shear=True), st.tuples(*[st.integers(1, 60)] * 3), sizes)
def test_resizing_keeps_the_corner_and_the_extent(
    affine: np.ndarray, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    new_shape, resized = geometry.resized_grid(shape, affine, spacing)
    np.testing.assert_allclose(geometry.spacing_mm(resized), spacing, rtol=1e-9)
    np.testing.assert_allclose(
        geometry.to_world(resized, (-0.5, -0.5, -0.5)), geometry.to_world(affine, (-0.5, -0.5, -0.5)), atol=1e-7
    )
    for old, new, old_mm, new_mm in zip(shape, new_shape, geometry.spacing_mm(affine), spacing, strict=True):
        assert new >= 1
        # To within half a new voxel, except where a single voxel is as thin as it can get.
        assert abs(old * old_mm - new * new_mm) <= 0.5 * new_mm + 1e-6 or new == 1


@SETTINGS
@given(affines(shear=True), shapes, st.sampled_from([0, 1]))
def test_resampling_onto_the_same_grid_changes_nothing(
    affine: np.ndarray, shape: tuple[int, int, int], order: int
) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    result = geometry.resample_to_grid(values, affine, shape, affine, order=order, fill=-5.0)
    np.testing.assert_array_equal(result, values)


@SETTINGS
@given(affines(), shapes)
def test_labels_survive_turning_there_and_back(affine: np.ndarray, shape: tuple[int, int, int]) -> None:
    labels = np.random.default_rng(1).integers(0, 9, shape).astype(np.uint8)
    turned, canonical = geometry.to_canonical(labels, affine)
    back = geometry.resample_to_grid(turned, canonical, shape, affine, order=0, fill=0)
    np.testing.assert_array_equal(back, labels)


@SETTINGS
@given(affines(shear=True), st.tuples(*[st.floats(-50, 50)] * 3))
def test_crops_add_up(affine: np.ndarray, origin: tuple[float, float, float]) -> None:
    twice = geometry.crop_affine(geometry.crop_affine(affine, origin), (1.0, 2.0, 3.0))
    once = geometry.crop_affine(affine, (origin[0] + 1.0, origin[1] + 2.0, origin[2] + 3.0))
    np.testing.assert_allclose(twice, once, atol=1e-7)
