"""The store of clouds and its loader: what goes in comes out, in an order that nothing but (seed, step) decides."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from medssl.errors import CacheError, ConfigError, DataError
from pointcloud.batch import CloudBatch, CloudPlan, inside
from pointcloud.cloud import make_cloud
from pointcloud.loading import CloudLoader, each_cloud, held_out_clouds
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, find_entry, store_from_clouds, write_cloud, write_cloud_index

COUNTS = (40, 9, 25, 30, 12)


def items():
    draw = np.random.default_rng(0)
    for number, count in enumerate(COUNTS):
        cloud = make_cloud(
            draw.normal(5.0, 2.0, (count, 3)),
            normals=draw.normal(size=(count, 3)),
            intensity=draw.random(count),
            labels=np.arange(count) % 3,
            label=number % 2,
            unit="mm",
        )
        yield CloudItem(id=f"cloud/{number}", cloud=cloud, patient=f"p{number // 2}", split="train" if number else "")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_from_clouds(
        tmp_path_factory.mktemp("clouds"), items(), classes={0: "a", 1: "b"}, parts={0: "top"}, settings={"x": 1}
    )


def same(a: CloudBatch, b: CloudBatch) -> bool:
    return all(torch.equal(v, b.tensors()[k]) for k, v in a.tensors().items())


def test_what_goes_in_comes_out(store):
    assert len(store) == len(COUNTS)
    assert (store.classes, store.parts, store.settings, store.failed) == ({0: "a", 1: "b"}, {0: "top"}, {"x": 1}, {})
    for row, item in enumerate(items()):
        entry = store.entries[row]
        assert np.array_equal(store.points(row), item.cloud.points)
        assert np.array_equal(store.labels(row), item.cloud.labels)
        assert np.array_equal(store.column(row, "intensity"), item.cloud.intensity)
        assert np.array_equal(store.column(row, "ny"), item.cloud.normals[:, 1])
        assert (entry.id, entry.patient, entry.split) == (item.id, item.patient, item.split)
        assert (entry.points, entry.label, entry.unit) == (COUNTS[row], row % 2, "mm")
        scaled = (item.cloud.points - np.array(entry.centre)) / entry.radius
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
        assert np.linalg.norm(scaled, axis=1).max() == pytest.approx(1.0, abs=1e-6)


def test_points_are_mapped_not_read(store):
    assert isinstance(store.points(0).base, np.memmap) or isinstance(store.points(0), np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.points(0)[0] = 0


def test_a_store_travels_to_another_process_and_can_be_cut(store):
    there = pickle.loads(pickle.dumps(store))
    assert np.array_equal(there.points(3), store.points(3))
    part = store.subset(["cloud/3", "cloud/1"])
    assert [e.id for e in part.entries] == ["cloud/3", "cloud/1"]
    assert np.array_equal(part.points(0), store.points(3))
    with pytest.raises(DataError, match="Did you mean 'cloud/3'"):
        store.subset(["cloudy/3"])


def test_a_written_cloud_is_found_by_its_key_and_only_by_it(tmp_path):
    item = next(items())
    entry = write_cloud(tmp_path, item.id, item.cloud, key="k1")
    assert find_entry(tmp_path, item.id, "k1") == entry
    assert find_entry(tmp_path, item.id, "k2") is None
    (tmp_path / entry.file).unlink()
    assert find_entry(tmp_path, item.id, "k1") is None


def test_damage_is_named(tmp_path, store):
    with pytest.raises(CacheError, match="no store of clouds"):
        CloudStore.open(tmp_path)
    made = store_from_clouds(tmp_path, items())
    file = tmp_path / made.entries[0].file
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(CacheError, match=str(made.entries[0].file)):
        CloudStore.open(tmp_path).points(0)
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CacheError, match="cannot be opened"):
        CloudStore.open(tmp_path).points(0)
    np.save(file, np.zeros((3, 3), np.float32))
    with pytest.raises(CacheError, match="the index says"):
        CloudStore.open(tmp_path).points(0)
    with pytest.raises(CacheError, match="more than once"):
        write_cloud_index(tmp_path, [made.entries[0]] * 2)
    (tmp_path / "clouds.json").write_text('{"version": 99}')
    with pytest.raises(CacheError, match="version 99"):
        CloudStore.open(tmp_path)
    with pytest.raises(DataError, match="has no 'red'"):
        store.column(0, "red")


def test_each_cloud_keeps_its_own_number_of_points(store):
    batch = CloudLoader(store, CloudPlan(points=20, labels=True), batch_size=5, seed=3).batch(0)
    assert batch.points.shape == (5, 20, 3)
    assert batch.count.tolist() == [min(20, COUNTS[i]) for i in batch.item.tolist()]
    rows = inside(batch.count, 20)
    assert (batch.labels[~rows] == -1).all()
    assert (batch.labels[rows] >= 0).all()
    seen = batch.network_input()
    assert (seen[~rows] == 0).all()
    assert seen.norm(dim=-1).max() <= 1 + 1e-6
    assert (batch.patient == batch.item // 2).all()
    assert (batch.label == batch.item % 2).all()
    for row, item in enumerate(batch.item.tolist()):  # each point comes once, and with its own label
        found = [np.flatnonzero((store.points(item) == p).all(1))[0] for p in batch.points[row][rows[row]].numpy()]
        assert len(set(found)) == len(found)
        assert batch.labels[row][rows[row]].tolist() == store.labels(item)[found].tolist()


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_threads_change_nothing(store, threads):
    plain = CloudLoader(store, CloudPlan(points=8), batch_size=3, seed=5)
    ahead = CloudLoader(store, CloudPlan(points=8), batch_size=3, seed=5, threads=threads)
    for step, batch in enumerate(ahead.batches(0, 6)):
        assert same(batch, plain.batch(step))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_are_the_global_batch(store, world_size):
    plan = CloudPlan(points=10)
    whole = CloudLoader(store, plan, batch_size=7, seed=9).batch(4)
    for rank in range(world_size):
        part = CloudLoader(store, plan, batch_size=7, seed=9, rank=rank, world_size=world_size).batch(4)
        for row, slot in enumerate(part.slot.tolist()):
            n = int(part.count[row])
            assert torch.equal(part.points[row, :n], whole.points[slot, :n])
            assert part.item[row] == whole.item[slot]


def test_every_cloud_is_seen_once_an_epoch_and_with_other_points_each_time(store):
    loader = CloudLoader(store, CloudPlan(points=6), batch_size=2, seed=1)
    seen = [item for step in range(10) for item in loader.items(step)]
    assert all(sorted(seen[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 20, 5))
    once = {step: loader.batch(step) for step in range(10)}
    first = [b.points[r] for b in once.values() for r in range(2) if b.item[r] == 0]
    assert len(first) == 4
    assert not torch.equal(first[0], first[1])


def test_held_out_clouds_are_the_same_at_every_call(store):
    once = held_out_clouds(store, CloudPlan(points=7), 2, seed=4)
    again = held_out_clouds(store, CloudPlan(points=7), 2, seed=4)
    assert [len(b) for b in once] == [2, 2, 1]
    assert [i for b in once for i in b.item.tolist()] == [0, 1, 2, 3, 4]
    assert all(same(a, b) for a, b in zip(once, again, strict=True))


def test_the_points_of_a_cloud_hang_on_its_id_and_not_on_what_lies_beside_it(store):
    plan = CloudPlan(points=7)
    whole = {int(b.item[r]): b.points[r] for b in held_out_clouds(store, plan, 2, seed=4) for r in range(len(b))}
    names = [entry.id for entry in store.entries]
    turned = held_out_clouds(store.subset(reversed(names)), plan, 3, seed=4)
    alone = held_out_clouds(store.subset([names[3]]), plan, 1, seed=4)
    for batch in turned:
        for row, item in enumerate(batch.item.tolist()):
            assert torch.equal(batch.points[row], whole[len(names) - 1 - item])
    assert torch.equal(alone[0].points[0], whole[3])
    other = next(each_cloud(store, plan, 5, 4, draw=1))
    assert not torch.equal(other.points[3], whole[3])


def test_a_batch_can_be_cut_and_moved(store):
    batch = CloudLoader(store, CloudPlan(points=7, labels=True), batch_size=4, seed=0).batch(0)
    part = batch.rows(1, 3).to("cpu")
    assert len(part) == 2
    assert torch.equal(part.points, batch.points[1:3])
    assert torch.equal(part.slot, batch.slot[1:3])


def test_what_cannot_be_loaded_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="two points"):
        CloudLoader(store, CloudPlan(points=1), batch_size=1, seed=0)
    with pytest.raises(DataError, match="no cloud"):
        CloudLoader(store.subset([]), CloudPlan(), batch_size=1, seed=0)
    bare = store_from_clouds(tmp_path, [CloudItem(id="bare", cloud=make_cloud(np.eye(3)))])
    with pytest.raises(DataError, match=r"1 of 1 clouds have none \(bare\)"):
        CloudLoader(bare, CloudPlan(labels=True), batch_size=1, seed=0)
