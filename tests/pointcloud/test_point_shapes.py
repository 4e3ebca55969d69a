"""The procedural shapes: pure functions of (seed, class, index), of even density, distinguished by simple means."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import ConfigError
from medssl.randomness import numpy_generator
from pointcloud.mesh import sample_surface
from pointcloud.shapes import CLASSES, CLEAN, HARD, Nuisance, dataset, parts_of, shape
from pointcloud.solids import SOLIDS


def test_there_are_as_many_classes_as_promised():
    assert 12 <= len(CLASSES) <= 20


@pytest.mark.parametrize("name", CLASSES)
def test_a_shape_is_a_function_of_seed_class_and_index(name):
    first = shape(name, 4, seed=7, points=256)
    shape(name, 5, seed=7, points=64)  # what else is drawn changes nothing
    np.testing.assert_array_equal(first.points, shape(name, 4, seed=7, points=256).points)
    for other in (shape(name, 5, seed=7, points=256), shape(name, 4, seed=8, points=256)):
        assert not np.allclose(first.points, other.points)
    assert first.label == CLASSES.index(name)
    assert first.points.shape == (256, 3)
    assert first.points.dtype == np.float32


@pytest.mark.parametrize("name", CLASSES)
def test_solids_have_sound_faces(name):
    for index in range(4):
        mesh = SOLIDS[name](numpy_generator(0, index))
        assert mesh.faces.min() >= 0
        assert mesh.faces.max() < len(mesh.vertices)
        assert np.isfinite(mesh.vertices).all()
        assert (np.ptp(mesh.vertices, axis=0) > 0.2).all()


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"bowl", "cup", "saddle", "moebius"}))
def test_faces_of_closed_solids_look_outwards(name):
    mesh = SOLIDS[name](numpy_generator(0, 1))
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    assert np.einsum("nd,nd->", a, np.cross(b, c)) / 6 > 0.01


def test_clean_shapes_lie_on_their_surface_in_the_unit_ball():
    for name in CLASSES:
        cloud = shape(name, 0, seed=1, points=400, nuisance=CLEAN)
        assert np.linalg.norm(cloud.points, axis=1).max() <= 1 + 1e-6
    ball = shape("torus", 0, seed=1, points=400, nuisance=CLEAN).points.astype(np.float64)
    around = np.hypot(ball[:, 0], ball[:, 1])
    middle = (around.max() + around.min()) / 2
    thickness = np.hypot(around - middle, ball[:, 2])
    np.testing.assert_allclose(thickness, thickness.max(), rtol=0.06)  # circles are polygons


def test_noise_and_outliers_are_as_large_as_said():
    clean = shape("brick", 2, seed=3, points=2000, nuisance=CLEAN).points
    noisy = shape("brick", 2, seed=3, points=2000, nuisance=Nuisance(**{**vars(CLEAN), "noise": 0.05})).points
    assert float((noisy - clean).std()) == pytest.approx(0.05, rel=0.05)
    stray = shape("brick", 2, seed=3, points=2000, nuisance=Nuisance(**{**vars(CLEAN), "outliers": 0.2})).points
    assert (stray != clean).any(axis=1).mean() == pytest.approx(0.2, abs=0.03)


def test_occlusion_cuts_one_side_away():
    cut = Nuisance(**{**vars(CLEAN), "occlusion": 0.8})
    lost = []
    for index in range(12):
        whole = shape("ellipsoid", index, seed=3, points=500, nuisance=CLEAN).points
        part = shape("ellipsoid", index, seed=3, points=500, nuisance=cut).points
        near = np.linalg.norm(whole[:, None] - part[None], axis=-1).min(axis=1)
        lost.append((near > 0.25).mean())
        assert len(np.unique(part, axis=0)) == 500
    assert max(lost) > 0.3
    assert min(lost) < 0.1


def test_density_falls_across_the_shape():
    thinned = Nuisance(**{**vars(CLEAN), "density": 1.0})
    shift = [
        np.linalg.norm(shape("ellipsoid", index, seed=1, points=2000, nuisance=thinned).points.mean(axis=0))
        for index in range(8)
    ]
    even = [
        np.linalg.norm(shape("ellipsoid", k, seed=1, points=2000, nuisance=CLEAN).points.mean(axis=0)) for k in range(8)
    ]
    assert np.mean(shift) > 3 * np.mean(even)


def test_upright_shapes_stay_upright_and_others_do_not():
    tall = {}
    for pose in ("upright", "any"):
        nuisance = Nuisance(**{**vars(CLEAN), "pose": pose})
        tall[pose] = [np.ptp(shape("bottle", k, seed=2, points=300, nuisance=nuisance).points[:, 2]) for k in range(8)]
        plain = [np.ptp(shape("bottle", k, seed=2, points=300, nuisance=CLEAN).points[:, 2]) for k in range(8)]
    np.testing.assert_allclose(tall["upright"], plain, rtol=0.1)
    assert np.abs(np.array(tall["any"]) - plain).max() > 0.1


@pytest.mark.parametrize("pose", ["none", "upright", "any"])
def test_poses_are_rotations(pose):
    from pointcloud.shapes import _rotation

    turned = _rotation(pose, numpy_generator(3, 4))
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1.0)


def test_the_surface_is_drawn_evenly():
    mesh = SOLIDS["brick"](numpy_generator(0, 0))
    points, _, _ = sample_surface(mesh, 20000, numpy_generator(1))
    size = np.ptp(mesh.vertices, axis=0)
    on_top = np.isclose(points[:, 2], mesh.vertices[:, 2].max()).mean()
    area = size[0] * size[1] / (2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2]))
    assert on_top == pytest.approx(area, abs=0.01)


def test_a_dataset_is_balanced_and_its_beginning_too():
    points, labels = dataset(range(3), seed=0, points=64)
    assert points.shape == (3 * len(CLASSES), 64, 3)
    assert np.bincount(labels).tolist() == [3] * len(CLASSES)
    assert sorted(labels[: len(CLASSES)].tolist()) == list(range(len(CLASSES)))
    np.testing.assert_array_equal(points[0], shape(CLASSES[0], 0, seed=0, points=64).points)


def _features(points):
    """Quantiles of distances from the centre and between points: no turn of the cloud changes them."""
    rows = []
    for cloud in points - points.mean(axis=1, keepdims=True):
        cloud = cloud / np.linalg.norm(cloud, axis=1).max()
        radius = np.linalg.norm(cloud, axis=1)
        between = np.linalg.norm(cloud[::2] - cloud[1::2], axis=1)
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(cloud.T)))
        rows.append(
            np.concatenate([np.quantile(each, np.linspace(0.05, 0.95, 8)) for each in (radius, between)] + [spread])
        )
    return np.array(rows)


def test_classes_can_be_distinguished_and_nuisance_makes_it_harder():
    scores = {}
    for name, nuisance in (("clean", CLEAN), ("default", Nuisance()), ("hard", HARD)):
        train, classes = dataset(range(8), seed=0, points=256, nuisance=nuisance)
        test, truth = dataset(range(8, 12), seed=0, points=256, nuisance=nuisance)
        known, asked = _features(train), _features(test)
        nearest = np.linalg.norm(asked[:, None] - known[None], axis=-1).argmin(axis=1)
        scores[name] = (classes[nearest] == truth).mean()
    assert scores["clean"] > 0.6, scores
    assert scores["clean"] > scores["default"] > scores["hard"] > 1.5 / len(CLASSES), scores


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"pose": "upwards"}, "upright"),
        ({"scale": (2.0, 1.0)}, "lower first"),
        ({"noise": -0.1}, "noise is"),
        ({"occlusion": 0.95}, "0 to 0.8"),
        ({"stretch": 1.0}, "below 1"),
    ],
)
def test_wrong_nuisance_is_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        Nuisance(**wrong)


def test_unknown_shapes_are_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'torus'"):
        shape("toru", 0, seed=0)


@pytest.mark.parametrize("name", [name for name in CLASSES if parts_of(name)])
def test_parts_cover_the_shape_and_change_no_point(name):
    plain = shape(name, 1, seed=3, points=600)
    labelled = shape(name, 1, seed=3, points=600, parts=True)
    assert (plain.points == labelled.points).all()
    assert plain.labels is None
    assert set(labelled.labels.tolist()) == set(parts_of(name))


def test_parts_lie_where_they_should():
    table = shape("table", 0, seed=0, points=2000, nuisance=CLEAN, parts=True)
    top, legs = parts_of("table")
    assert table.points[table.labels == top, 2].min() > np.median(table.points[table.labels == legs, 2])
    bottle = shape("bottle", 0, seed=0, points=2000, nuisance=CLEAN, parts=True)
    body, neck = parts_of("bottle")
    around = np.linalg.norm(bottle.points[:, :2], axis=1)
    assert np.median(around[bottle.labels == body]) > 2 * around[bottle.labels == neck].max()
    cylinder = shape("cylinder", 0, seed=0, points=2000, nuisance=CLEAN, parts=True)
    lids, side = parts_of("cylinder")
    up = np.abs(cylinder.normals[:, 2])
    assert (up[cylinder.labels == lids] > 0.99).all()
    assert (up[cylinder.labels == side] < 0.01).all()
    star = shape("star", 0, seed=0, points=2000, nuisance=CLEAN, parts=True)
    lids, side = parts_of("star")
    assert (np.abs(star.normals[star.labels == lids, 2]) > 0.99).all()
    assert (np.abs(star.normals[star.labels == side, 2]) < 0.01).all()


def test_outliers_belong_to_no_part():
    cloud = shape("cup", 0, seed=0, points=1000, nuisance=Nuisance(outliers=0.3), parts=True)
    assert 0.2 < (cloud.labels == -1).mean() < 0.4


def test_a_shape_of_one_piece_has_no_parts():
    with pytest.raises(ConfigError, match="cup"):
        shape("torus", 0, seed=0, parts=True)
