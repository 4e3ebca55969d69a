"""The loader: a pure function of (seed, step), whatever the threads, the ranks and the place it starts from."""

import threading
import time

import numpy as np
import pytest
import torch

from medssl import loading
from medssl.errors import ConfigError, DataError
from medssl.loading import WindowLoader, held_out_batches
from medssl.placement import place_window
from medssl.randomness import numpy_generator
from medssl.step_loader import patient_numbers
from medssl.store.in_memory import Item, store_from_arrays
from medssl.windows import WindowBatch, WindowPlan

PLAN = WindowPlan(size=(16, 24, 20), placement="anywhere")
LABELLED = WindowPlan(size=(16, 24, 20), placement="foreground", foreground_share=1.0, labels=True)


def scans(count=5, labelled=True):
    generator = np.random.default_rng(1)
    for i in range(count):
        shape = (20 + 10 * i, 70, 40)
        labels = np.zeros(shape, dtype=np.int16)
        labels[3 + i, 5, 7], labels[10, 60, 30] = 1, 2
        values = generator.integers(-900, 900, shape)
        yield Item(id=f"s{i}", values=values, labels=labels if labelled else None, patient="p" if i < 2 else "")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_from_arrays(tmp_path_factory.mktemp("store"), scans())


def same(one: WindowBatch, other: WindowBatch) -> bool:
    pairs = [(vars(one)[name], vars(other)[name]) for name in vars(one)]
    return all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


def test_values_are_what_the_scan_holds_at_the_origin(store):
    batch = WindowLoader(store, LABELLED, batch_size=7, seed=3).batch(2)
    for row in range(7):
        item, origin = int(batch.item[row]), tuple(batch.origin[row].tolist())
        np.testing.assert_array_equal(batch.values[row, 0], store.window(item, origin, LABELLED.size))
        np.testing.assert_array_equal(batch.labels[row], store.label_window(item, origin, LABELLED.size))
        assert tuple(batch.extent[row].tolist()) == store.entries[item].shape
        assert batch.body_box[row].tolist() == [list(c) for c in store.entries[item].body_box]
    assert batch.values.dtype == torch.int16
    assert batch.slot.tolist() == list(range(7))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(store, threads):
    alone = list(WindowLoader(store, LABELLED, batch_size=4, seed=9, threads=0).batches(3, 13))
    ahead = list(WindowLoader(store, LABELLED, batch_size=4, seed=9, threads=threads).batches(3, 13))
    assert len(alone) == len(ahead) == 10
    assert all(same(a, b) for a, b in zip(alone, ahead, strict=True))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_are_the_global_batch(store, world_size):
    whole = WindowLoader(store, PLAN, batch_size=7, seed=9).batch(4)
    ranks = range(world_size)
    parts = [WindowLoader(store, PLAN, batch_size=7, seed=9, rank=r, world_size=world_size).batch(4) for r in ranks]
    assert sorted(s for p in parts for s in p.slot.tolist()) == list(range(7))
    for part in parts:
        for row, slot in enumerate(part.slot.tolist()):
            assert torch.equal(part.values[row], whole.values[slot])
            assert torch.equal(part.origin[row], whole.origin[slot])


def test_a_resumed_run_sees_what_it_would_have_seen(store):
    through = list(WindowLoader(store, PLAN, batch_size=3, seed=1).batches(0, 8))
    resumed = list(WindowLoader(store, PLAN, batch_size=3, seed=1).batches(5, 8))
    assert all(same(a, b) for a, b in zip(through[5:], resumed, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 5, 13])
def test_every_scan_is_seen_once_an_epoch(store, batch_size):
    loader = WindowLoader(store, PLAN, batch_size=batch_size, seed=2)
    seen = [item for step in range(15) for item in loader.items(step)]
    epochs = [seen[i : i + 5] for i in range(0, len(seen) // 5 * 5, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert loader.steps_per_epoch == 5 / batch_size


def test_seeds_and_steps_give_other_windows(store):
    first = WindowLoader(store, PLAN, batch_size=5, seed=0)
    other = WindowLoader(store, PLAN, batch_size=5, seed=1)
    assert not torch.equal(first.batch(0).origin, first.batch(1).origin)
    assert not torch.equal(first.batch(0).origin, other.batch(0).origin)


def test_origins_are_drawn_apart_from_the_views(store):
    drawn = numpy_generator(7, 3, 2, loading._ORIGINS).random(8)
    assert not np.allclose(drawn, numpy_generator(7, 3, 2).random(8))


def test_foreground_windows_hold_a_labelled_voxel_of_each_structure_in_turn(store):
    loader = WindowLoader(store, LABELLED, batch_size=5, seed=0)
    hits = {1: 0, 2: 0}
    for step in range(12):
        for labels in loader.batch(step).labels:
            assert (labels > 0).any()
            for number in hits:
                hits[number] += int((labels == number).any())
    assert min(hits.values()) > 12


def test_windows_stay_inside_where_the_scan_is_large_enough_and_are_centred_where_not(store):
    plan = WindowPlan(size=(25, 30, 60), placement="anywhere")
    for seed in range(40):
        z, y, x = place_window(store, 0, plan, numpy_generator(seed))  # the scan is 20 x 70 x 40
        assert (z, x) == (-3, -10)
        assert 0 <= y <= 40


def test_body_windows_keep_to_the_body_box(tmp_path):
    values = np.full((50, 60, 70), -1000)
    values[20:40, 10:50, 30:66] = 40
    store = store_from_arrays(tmp_path, [Item(id="a", values=values)])
    (low, high) = store.entries[0].body_box
    np.testing.assert_allclose([low, high], [(20, 10, 30), (40, 50, 66)], atol=1)
    plan = WindowPlan(size=(30, 16, 16))
    for seed in range(40):
        z, y, x = place_window(store, 0, plan, numpy_generator(seed))
        assert z == 15  # the box is the smaller: centred
        assert low[1] <= y <= high[1] - 16
        assert low[2] <= x <= high[2] - 16


def test_scans_of_a_patient_share_a_number(store):
    numbers = patient_numbers(store)
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 4


def test_held_out_windows_are_fixed_and_cover_every_scan(store):
    once, again = (held_out_batches(store, PLAN, 2, 5) for _ in range(2))
    assert [len(batch) for batch in once] == [2, 2, 1]
    assert torch.cat([batch.item for batch in once]).tolist() == [0, 1, 2, 3, 4]
    assert all(same(a, b) for a, b in zip(once, again, strict=True))


def loader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("medssl-loader")]


def test_closing_early_stops_the_threads(store):
    batches = WindowLoader(store, PLAN, batch_size=2, seed=0, threads=3).batches(0, 10_000)
    next(batches)
    assert loader_threads()
    batches.close()
    assert not loader_threads()


def test_an_error_while_reading_arrives_and_stops_the_threads(store, monkeypatch):
    loader = WindowLoader(store, PLAN, batch_size=2, seed=0, threads=2)
    honest = loader.batch

    def breaks(step):
        if step == 3:
            raise OSError("the disk went away")
        return honest(step)

    monkeypatch.setattr(loader, "batch", breaks)
    seen = []
    with pytest.raises(OSError, match="went away"):
        seen.extend(loader.batches(0, 50))
    assert len(seen) == 3
    assert not loader_threads()


@pytest.mark.parametrize("threads", [0, 1])
def test_waiting_is_measured(store, monkeypatch, threads):
    loader = WindowLoader(store, PLAN, batch_size=1, seed=0, threads=threads)
    honest = loader.batch

    def slow(step):
        time.sleep(0.02)
        return honest(step)

    monkeypatch.setattr(loader, "batch", slow)
    list(loader.batches(0, 5))
    assert loader.wait_seconds >= 0.05


def test_no_steps_no_batches(store):
    assert list(WindowLoader(store, PLAN, batch_size=2, seed=0, threads=2).batches(4, 4)) == []


def test_labels_that_are_not_there_are_asked_for_by_name(tmp_path):
    store = store_from_arrays(tmp_path, scans(2, labelled=False))
    with pytest.raises(DataError, match=r"2 of 2 scans have none \(s0, s1\)"):
        WindowLoader(store, LABELLED, batch_size=1, seed=0)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"rank": 2, "world_size": 2}, ConfigError, "rank"),
        ({"batch_size": 1, "world_size": 2}, ConfigError, "global batch"),
        ({"threads": -1}, ConfigError, "threads"),
    ],
)
def test_wrong_numbers_are_refused(store, wrong, error, words):
    with pytest.raises(error, match=words):
        WindowLoader(store, PLAN, **{"batch_size": 4, "seed": 0, **wrong})


def test_an_empty_store_is_refused(store):
    with pytest.raises(DataError, match="no scan"):
        WindowLoader(store.split("nowhere"), PLAN, batch_size=1, seed=0)
