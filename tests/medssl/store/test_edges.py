"""Windows that hang over each edge of a scan, and the part of a scan that its scale is taken from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medssl.loading import WindowLoader
from medssl.placement import place_window
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.options import StoreSettings
from medssl.store.prepare import scale_intensity
from medssl.windows import WindowPlan

SHAPE = (5, 6, 7)


@pytest.fixture
def store(tmp_path):
    draw = np.random.default_rng(0)
    items = [
        Item(id=f"s{n}", values=draw.integers(-900, 900, SHAPE).astype(np.int16), labels=draw.integers(0, 4, SHAPE),
             patient=f"p{n // 2}")
        for n in range(4)
    ]  # fmt: skip
    return store_from_arrays(tmp_path / "store", items)


@pytest.mark.parametrize("edge", list(itertools.product([-2, 1, 3], repeat=3)))
def test_a_window_over_an_edge_holds_each_voxel_at_its_place(store, edge):
    """Voxel by voxel: a window that begins two before the scan, lies in it, or ends behind it, on every axis."""
    size = (4, 4, 6)
    window, labels = store.window(0, edge, size), store.label_window(0, edge, size)
    values, truth = store.values(0), store.labels(0)
    for place in np.ndindex(*size):
        there = tuple(o + p for o, p in zip(edge, place, strict=True))
        inside = all(0 <= i < n for i, n in zip(there, SHAPE, strict=True))
        assert window[place] == (values[there] if inside else store.entries[0].fill)
        assert labels[place] == (truth[there] if inside else -1)


def test_every_place_of_a_window_is_drawn_and_no_other(store):
    plan = WindowPlan(size=(4, 5, 5), placement="anywhere")
    drawn = {place_window(store, 0, plan, numpy_generator(0, n)) for n in range(400)}
    assert drawn == set(itertools.product(range(2), range(2), range(3)))


def test_scans_of_one_patient_have_one_number_in_a_batch(store):
    batch = WindowLoader(store, WindowPlan(size=(2, 2, 2)), batch_size=4, seed=0, threads=0).batch(0)
    of_item = dict(zip(batch.item.tolist(), batch.patient.tolist(), strict=True))
    assert sorted(of_item) == [0, 1, 2, 3]
    assert of_item[0] == of_item[1] != of_item[2] == of_item[3]


def test_the_scale_of_mr_is_that_of_its_body(store):
    """A body of an eighth of an edge in noise: percentiles of the whole scan would say nothing of it."""
    draw = np.random.default_rng(1)
    values = draw.normal(5, 1, (32, 32, 32)).astype(np.float32)
    values[14:18, 14:18, 14:18] = draw.uniform(400, 600, (4, 4, 4))
    box = ((14, 14, 14), (18, 18, 18))
    settings = StoreSettings()
    scaled = scale_intensity(values, box, hounsfield=False, settings=settings)
    low, high = np.percentile(values[14:18, 14:18, 14:18], settings.percentiles)
    assert scaled.intercept == pytest.approx(low)
    assert scaled.slope * scaled.scale[1] == pytest.approx(high - low)
    assert scaled.intercept > 390
