"""Where several windows of a scan lie: parts, gaps and other frames, the same for any ranks and threads."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from medssl.errors import ConfigError, DataError
from medssl.loading import WindowLoader, held_out_batches
from medssl.placement import draw_gap, gap_distribution, part_starts
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.windows import WindowPlan

PARTS = WindowPlan(size=(1, 16, 16), placement="anywhere", count=4, relation="partitions")
GAP = WindowPlan(size=(4, 10, 10), placement="anywhere", count=2, relation="gap")
FRAME = WindowPlan(size=(1, 16, 16), placement="anywhere", count=2, relation="frame")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six scans of three patients, two frames each; every voxel of a slice holds the slice's number."""
    items = []
    for number in range(6):
        depth = 7 + 4 * (number // 2)
        values = np.broadcast_to(np.arange(depth)[:, None, None], (depth, 16, 16)).astype(np.int16)
        items.append(Item(id=f"p{number // 2}_f{number % 2}", values=values, patient=f"p{number // 2}"))
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


@given(st.integers(-5, 20), st.integers(1, 60), st.integers(1, 12))
def test_every_slice_belongs_to_one_part_and_none_is_left_out(low, extent, parts):
    starts = [list(part_starts(low, low + extent, 1, part, parts)) for part in range(parts)]
    drawn = [start for part in starts for start in part]
    assert set(drawn) <= set(range(low, low + extent))
    assert drawn == sorted(drawn)
    if extent >= parts:  # fewer slices than parts share slices between neighbours
        assert drawn == list(range(low, low + extent))
        assert max(map(len, starts)) - min(map(len, starts)) <= 1
    else:
        assert set(drawn) == set(range(low, low + extent))


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 8))
def test_windows_have_their_centre_in_their_part_and_stay_inside(extent, size, parts):
    for part in range(parts):
        starts = part_starts(0, extent, size, part, parts)
        assert len(starts) >= 1
        if extent >= size:
            assert starts.start >= 0
            assert starts.stop - 1 + size <= extent
        if len(starts) > 1:
            for start in starts:
                assert extent * part / parts <= start + size / 2 < extent * (part + 1) / parts


def test_a_tail_that_the_published_code_never_draws_is_drawn():
    """Ten slices in four parts: floor(10 / 4) = 2 a part would leave out slices 8 and 9."""
    assert [list(part_starts(0, 10, 1, part, 4)) for part in range(4)] == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]


def test_rows_are_scan_major_and_each_window_lies_in_its_part(store):
    loader = WindowLoader(store, PARTS, batch_size=8, seed=1)
    seen = set()
    for step in range(150):
        batch = loader.batch(step)
        assert batch.part.tolist() == [0, 1, 2, 3] * 2
        assert batch.slot.tolist() == list(range(8))
        assert batch.item.tolist() == [item for item in loader.items(step) for _ in range(4)]
        for row in range(8):
            z, depth = int(batch.origin[row, 0]), int(batch.extent[row, 0])
            assert (2 * z + 1) * 4 // (2 * depth) == batch.part[row]
            assert (batch.values[row] == z).all()
            seen.add((int(batch.item[row]), z))
    assert len(seen) == 2 * (7 + 11 + 15)  # the last slices too
    assert loader.steps_per_epoch == 3


@pytest.mark.parametrize("plan", [PARTS, GAP, FRAME], ids=["partitions", "gap", "frame"])
def test_ranks_threads_and_resuming_change_nothing(store, plan):
    size = 3 * plan.count
    whole = [WindowLoader(store, plan, batch_size=size, seed=9, threads=0).batch(step) for step in range(5)]
    ahead = list(WindowLoader(store, plan, batch_size=size, seed=9, threads=2).batches(2, 5))
    for one, other in zip(whole[2:], ahead, strict=True):
        assert torch.equal(one.values, other.values)
        assert torch.equal(one.origin, other.origin)
    for rank in range(2):
        part = WindowLoader(store, plan, batch_size=size, seed=9, rank=rank, world_size=2).batch(4)
        assert part.slot.tolist() == [g * plan.count + k for g in range(rank, 3, 2) for k in range(plan.count)]
        assert torch.equal(part.origin, whole[4].origin[part.slot])
        assert torch.equal(part.item, whole[4].item[part.slot])


def test_held_out_scans_give_all_their_windows(store):
    batches = held_out_batches(store, PARTS, 8, 0)
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert torch.cat([b.slot for b in batches]).tolist() == list(range(24))
    assert torch.cat([b.part for b in batches]).tolist() == [0, 1, 2, 3] * 6


def test_distribution_of_gaps_is_the_published_one():
    assert gap_distribution(5.0, 10.0) == pytest.approx(0.75)
    drawn = np.array([draw_gap(numpy_generator(3, i), 12.0) for i in range(3000)])
    assert drawn.min() >= 0
    assert drawn.max() <= 12
    assert drawn.mean() == pytest.approx(4.0, abs=0.2)
    assert kstest(drawn, lambda k: np.vectorize(gap_distribution)(k, 12.0)).pvalue > 0.01
    steep = np.array([draw_gap(numpy_generator(4, i), 12.0, 3.0) for i in range(2000)])
    assert kstest(steep, lambda k: np.vectorize(gap_distribution)(k, 12.0, 3.0)).pvalue > 0.01
    assert kstest(steep, lambda k: np.vectorize(gap_distribution)(k, 12.0, 1.0)).pvalue < 0.01


def test_gaps_are_in_mm_and_within_the_limit(tmp_path):
    values = np.zeros((60, 12, 12), dtype=np.int16)
    affine = np.diag([1.0, 1.0, 2.5, 1.0])
    store = store_from_arrays(tmp_path, [Item(id="thick", values=values, affine=affine)])
    plan = WindowPlan(size=(4, 8, 8), placement="anywhere", count=2, relation="gap", gap_mm=20.0)
    loader = WindowLoader(store, plan, batch_size=2, seed=0)
    gaps, signs = [], []
    for step in range(300):
        origin = loader.batch(step).origin
        assert torch.equal(origin[0, 1:], origin[1, 1:])  # one place in the plane
        gaps.append(float((origin[0, 0] - origin[1, 0]).abs()) * 2.5)
        signs.append(bool(origin[0, 0] > origin[1, 0]))
        assert int(origin.min()) >= 0
        assert int(origin[:, 0].max()) <= 56
    assert max(gaps) <= 20
    assert np.mean(gaps) == pytest.approx(20 / 3 - 1.25, abs=0.8)  # floored to whole slices
    assert 0.2 < np.mean(signs) < 0.8


def test_a_scan_too_short_for_a_gap_gives_one_place_twice(store):
    batch = WindowLoader(
        store, WindowPlan(size=(40, 16, 16), placement="anywhere", count=2, relation="gap"), batch_size=2, seed=0
    ).batch(0)
    assert torch.equal(batch.origin[0], batch.origin[1])


def test_the_other_frame_is_of_the_same_patient(store):
    loader = WindowLoader(store, FRAME, batch_size=6, seed=5)
    for step in range(10):
        batch = loader.batch(step)
        assert torch.equal(batch.patient[0::2], batch.patient[1::2])
        assert (batch.item[0::2] != batch.item[1::2]).all()


def test_phases_decide_which_frame_by_cyclic_distance(tmp_path):
    values = np.zeros((4, 8, 8), dtype=np.int16)
    items = [Item(id=f"t{i}", values=values, patient="p") for i in range(10)]
    store = store_from_arrays(tmp_path, items)
    phases = {f"t{i}": i / 10 for i in range(10)}
    plan = WindowPlan(size=(1, 8, 8), placement="anywhere", count=2, relation="frame")
    loader = WindowLoader(store, plan, batch_size=2, seed=5, phases=phases)
    apart = []
    for step in range(600):
        one, other = loader.batch(step).item.tolist()
        apart.append(min(abs(one - other), 10 - abs(one - other)))
    counts = np.bincount(apart, minlength=6)
    assert counts[0] == 0
    assert (np.diff(counts[1:]) < 0).all()  # near frames are drawn more often than far ones
    assert counts[4] > 0


def test_a_patient_with_one_scan_gives_a_second_window_of_it(tmp_path):
    store = store_from_arrays(tmp_path, [Item(id="a", values=np.zeros((9, 8, 8), dtype=np.int16))])
    batch = WindowLoader(store, FRAME, batch_size=2, seed=0).batch(0)
    assert batch.item.tolist() == [0, 0]


def test_allowed_slices_alone_are_drawn_each_once_an_epoch(store):
    allowed = {"p0_f0": [0, 6], "p1_f1": [3], "p2_f0": [1, 2, 14]}
    plan = WindowPlan(size=(1, 16, 16), placement="anywhere")
    loader = WindowLoader(store, plan, batch_size=3, seed=0, allowed=allowed)
    assert loader.steps_per_epoch == 2
    seen = []
    for step in range(2):
        batch = loader.batch(step)
        seen += [
            (store.entries[i].id, z) for i, z in zip(batch.item.tolist(), batch.origin[:, 0].tolist(), strict=True)
        ]
        assert (batch.values == batch.origin[:, 0].view(-1, 1, 1, 1, 1)).all()
    assert sorted(seen) == [(scan, z) for scan, indices in sorted(allowed.items()) for z in indices]


def test_loose_slices_are_things_of_their_own_and_stay_so(store):
    """Slices of a scan, and of a patient's two scans, then count as negatives of each other, in every epoch."""
    allowed = {"p0_f0": [0, 6], "p0_f1": [3], "p2_f0": [1]}
    plan = WindowPlan(size=(1, 16, 16), placement="anywhere")
    loader = WindowLoader(store, plan, batch_size=4, seed=0, allowed=allowed, apart="slices")
    first, second = loader.batch(0), loader.batch(1)
    places = [dict(zip(b.item.tolist(), b.origin[:, 0].tolist(), strict=True)) for b in (first, second)]
    assert len(places[0]) == 4
    assert places[0] == places[1]
    assert first.item.tolist() == first.patient.tolist()
    together = WindowLoader(store, plan, batch_size=4, seed=0, allowed=allowed).batch(0)
    assert len(set(together.patient.tolist())) == 2
    assert (together.values == first.values).all()


def test_allowed_slices_within_partitions(store):
    allowed = {"p1_f0": [0, 5, 6], "p2_f1": [14]}
    loader = WindowLoader(store, PARTS, batch_size=8, seed=0, allowed=allowed)
    for step in range(10):
        batch = loader.batch(step)
        for row in range(8):
            assert int(batch.origin[row, 0]) in allowed[store.entries[int(batch.item[row])].id]


@pytest.mark.parametrize(
    ("plan", "extra", "error", "message"),
    [
        (PARTS, {"batch_size": 6}, ConfigError, "multiple of the 4 windows"),
        (PARTS, {"world_size": 3}, ConfigError, "number of processes"),
        (WindowPlan(size=(1, 8, 8), count=3, relation="gap"), {}, ConfigError, "two windows"),
        (WindowPlan(size=(1, 8, 8), count=0), {}, ConfigError, "at least one window"),
        (WindowPlan(size=(1, 8, 8), count=2, relation="near"), {}, ConfigError, "relation must be one of"),
        (WindowPlan(size=(1, 8, 8), axis=3), {}, ConfigError, "axis must be"),
        (GAP, {"allowed": {"p0_f0": [1]}}, ConfigError, "allowed slices"),
        (WindowPlan(size=(1, 8, 8)), {"apart": "slices"}, ConfigError, "Give the list"),
        (PARTS, {"allowed": {"p0_f0": [1]}, "apart": "slices"}, ConfigError, "one window of a scan"),
        (PARTS, {"allowed": {"p0_f0": [7]}}, DataError, "names 7"),
        (PARTS, {"allowed": {"other": [1]}}, DataError, "names none"),
    ],
)
def test_what_cannot_be_drawn_is_refused(store, plan, extra, error, message):
    with pytest.raises(error, match=message):
        WindowLoader(store, plan, **{"batch_size": 8, "seed": 0, **extra})
