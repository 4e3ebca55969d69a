"""Copies among clouds: reordered, moved, scaled, turned, thinned and shaken ones are found, other shapes are not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import medssl
from medssl.manifest.schema import read_manifest
from medssl.reduction.hashes import Variant
from pointcloud.reduction.copies import RADIUS, find_cloud_copies
from pointcloud.reduction.prints import CloudTarget, cloud_prints
from pointcloud.reduction.verdict import BENT, SAME_SHAPE, bent, judge, relative_chamfer

TURN = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32)  # y up from z up


def shape(seed: int, count: int = 700) -> np.ndarray:
    """Return points on a bumpy ellipsoid, in mm."""
    noise = np.random.default_rng(seed)
    points = noise.standard_normal((count, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    bumps = 1 + 0.4 * np.cos(points @ noise.normal(0, 3, (3, 4))).mean(axis=1, keepdims=True)
    return (points * bumps * noise.uniform(10, 40, 3) + noise.uniform(-50, 50, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    clouds = tmp_path_factory.mktemp("clouds")
    noise = np.random.default_rng(8)
    for n in range(5):
        np.save(clouds / f"shape{n}.npy", shape(n))
    first = shape(0)
    np.save(clouds / "reordered.npy", noise.permutation(first))
    np.save(clouds / "moved.npy", (first * 0.001 + 3).astype(np.float32))
    np.save(clouds / "turned.npy", first @ TURN.T)
    np.save(clouds / "thinned.npy", first[noise.permutation(len(first))[:450]])
    np.save(clouds / "shaken.npy", first + noise.normal(0, 0.1, first.shape).astype(np.float32))
    return clouds


@pytest.fixture(scope="module")
def found(folder, tmp_path_factory):
    targets = {path.stem: CloudTarget(id=path.stem, path=str(path)) for path in sorted(folder.glob("*.npy"))}
    prints, failed = cloud_prints(list(targets.values()), tmp_path_factory.mktemp("prints"))
    assert not failed
    return prints, targets, find_cloud_copies(prints, targets)


def test_each_kind_of_copy_is_found_at_its_level_and_strangers_are_not(found):
    levels = {}
    for one in found[2].matches:
        if "shape0" in (one.first, one.second):
            levels[({one.first, one.second} - {"shape0"}).pop()] = one.verdict.level.value
    copies = {name: level for name, level in levels.items() if level != "different"}
    expected = dict.fromkeys(("moved", "turned", "thinned", "shaken"), "same image") | {"reordered": "same array"}
    assert copies == expected
    assert sorted(found[2].groups.kept) == sorted(["shape1", "shape2", "shape3", "shape4", found[2].groups.kept[0]])
    assert len(found[2].groups.removed) == 5


def test_a_turn_is_told(found):
    one = next(m for m in found[2].matches if (m.first, m.second) == ("shape0", "turned"))
    assert one.candidate.how == "turned field"
    assert one.candidate.distance * 511 <= RADIUS


def test_the_distance_is_chamfer_over_the_spacing():
    a, b = shape(1, 60), shape(2, 80)
    one, two = (
        (p - p.mean(axis=0, dtype=np.float64)) / np.linalg.norm(p - p.mean(axis=0, dtype=np.float64), axis=1).mean()
        for p in (a, b)
    )
    across = cdist(one, two)
    inner = [cdist(p, p) + np.eye(len(p)) * 99 for p in (one, two)]
    expected = (across.min(axis=1).mean() + across.min(axis=0).mean()) / 2 / max(d.min(axis=1).mean() for d in inner)
    assert relative_chamfer(a, b) == pytest.approx(expected, rel=1e-4)
    assert relative_chamfer(a, a[::-1]) == pytest.approx(0, abs=1e-3)
    assert relative_chamfer(a, b) == pytest.approx(relative_chamfer(b, a), rel=1e-5)


def test_a_second_pass_reads_nothing(folder, tmp_path, monkeypatch, in_this_process):
    targets = [CloudTarget(id=path.stem, path=str(path)) for path in sorted(folder.glob("*.npy"))]
    first, _ = cloud_prints(targets, tmp_path)

    def read(*_, **__):
        raise AssertionError("read again")

    monkeypatch.setattr("pointcloud.reduction.prints.read", read)
    again, failed = cloud_prints(targets[::-1], tmp_path)
    assert not failed
    assert [(a.id, a.content_hash) for a in again] == [(a.id, a.content_hash) for a in first]


def test_the_verbs_take_clouds(folder, tmp_path):
    (folder / "bad.npy").write_bytes(b"\x93NUMPY no cloud")
    medssl.index(folder, out=tmp_path / "c.parquet", overrides=["test=0.4"])
    result = medssl.reduce(tmp_path / "c.parquet", out=tmp_path / "k.parquet", jobs=1, overrides=["pictures=0"])
    assert len(result.kept) == 5
    assert medssl.check_split(tmp_path / "k.parquet", jobs=1).ok
    rows = {row["id"]: row for row in read_manifest(tmp_path / "k.parquet").rows()}
    copies = {"shape0", "reordered", "moved", "turned", "thinned", "shaken"}
    assert sum(rows[name]["keep"] for name in copies) == 1
    assert len({rows[name]["representative"] for name in copies}) == 1
    assert rows["bad"]["level"] == "unreadable"
    for by in ("kcentre", "hash", "random"):
        given = ["pictures=0", "thin=[train,val,test]"]
        some = medssl.reduce(
            tmp_path / "c.parquet", out=tmp_path / f"{by}.parquet", by=by, keep=3, jobs=1, overrides=given
        )
        assert len(some.kept) == 3


@pytest.fixture(scope="module")
def reduced(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("reduced")
    medssl.index(folder, out=place / "c.parquet", overrides=["test=0.4"])
    medssl.reduce(place / "c.parquet", out=place / "k.parquet", jobs=1)
    return place


def test_a_cloud_is_asked_against_an_index_of_clouds(reduced, tmp_path):
    noise = np.random.default_rng(3)
    np.save(tmp_path / "copy.npy", noise.permutation(shape(2) @ TURN.T @ TURN.T) * 2 + 7)
    np.save(tmp_path / "stranger.npy", shape(77))
    prints = reduced / "c.prints"
    before = {file.name: file.read_bytes() for file in prints.iterdir()}
    found = medssl.query(tmp_path / "copy.npy", index=prints).answers
    assert found[0].id == "shape2"
    assert found[0].verdict.level.value == "same image"
    assert found[0].how == "turned field"
    answers = medssl.query(tmp_path / "stranger.npy", index=prints, overrides=["nearest=2"]).answers
    assert answers
    assert not any(one.verdict and one.verdict.level.is_copy for one in answers)
    assert {file.name: file.read_bytes() for file in prints.iterdir()} == before


def test_a_cloud_that_is_gone_is_judged_by_its_hash(folder, reduced, tmp_path, monkeypatch):
    np.save(tmp_path / "again.npy", shape(3)[::-1])
    np.save(tmp_path / "turned.npy", shape(3) @ TURN.T)
    read = []

    def gone(target, cache, failures):
        read.append(target.id)

    monkeypatch.setattr("pointcloud.reduction.verdict._points", gone)
    same = medssl.query(tmp_path / "again.npy", index=reduced / "c.prints", overrides=["nearest=0"]).answers
    assert [(one.id, one.verdict.level.value) for one in same if one.verdict.level.is_copy] == [
        ("shape3", "same array")
    ]
    turned = medssl.query(tmp_path / "turned.npy", index=reduced / "c.prints", overrides=["nearest=0"]).answers
    assert {one.id: one.verdict.level.value for one in turned}["shape3"] == "different"
    assert read


def test_groups_of_clouds_are_drawn_with_the_limit_of_clouds(reduced):
    page = (reduced / "k.html").read_text()
    assert page.count('class="card"><figcaption>Left out: ') == 5
    assert page.count('<img src="data:image/') >= 6
    assert "700 points" in page
    assert "same cloud from" in page
    assert "related from" not in page  # the limits of volumes say nothing of clouds


def fitted(count: int, generator: np.random.Generator) -> np.ndarray:
    """Return a shape whose points are those of one sphere pushed outwards, as fitted templates have them."""
    number = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * number / count), np.pi * (1 + 5**0.5) * number
    sphere = np.stack([np.cos(around) * np.sin(polar), np.sin(around) * np.sin(polar), np.cos(polar)], axis=1)
    bumps = 1 + 0.08 * np.cos(sphere @ generator.normal(0, 2, (3, 3))).mean(axis=1, keepdims=True)
    return (sphere * bumps * [1.0, 1.5, 0.6] * generator.uniform(0.95, 1.05, 3)).astype(np.float32)


@pytest.mark.parametrize("count", [64, 256, 1024])
def test_alike_shapes_that_were_sampled_in_one_way_are_no_copies(count, tmp_path):
    generator = np.random.default_rng(count)
    shapes = [fitted(count, generator) for _ in range(6)]
    near = [relative_chamfer(one, two) for one, two in itertools.pairwise(shapes)]
    assert min(near) < SAME_SHAPE  # by the distance alone some are
    for n, points in enumerate(shapes):
        np.save(tmp_path / f"shape{n}.npy", points)
    own = 0.4 * np.sqrt(4 * np.pi / count)
    shaken = shapes[0] + generator.normal(0, 0.25 * own, shapes[0].shape).astype(np.float32)
    assert bent(shapes[0], shaken) < BENT * relative_chamfer(shapes[0], shaken)
    targets = {path.stem: CloudTarget(id=path.stem, path=str(path)) for path in sorted(tmp_path.glob("*.npy"))}
    prints, _ = cloud_prints(list(targets.values()), tmp_path / "prints")
    assert not [one for one in find_cloud_copies(prints, targets).matches if one.verdict.level.is_copy]
    # Few of them are proposed, if any: every pair is judged.
    pairs = [judge(*pair, Variant(), targets, cache={}, failures={}) for pair in itertools.combinations(prints, 2)]
    assert len(pairs) == 15
    assert not [one for one in pairs if one.level.is_copy]
