"""Clouds of a store opened by many threads at once."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pointcloud.cloud import make_cloud
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds


def test_many_threads_open_clouds_at_once(tmp_path):
    # without a lock this fails in CPython 3.11 within a few hundred arrays: NumPy's headers go through ast
    points = np.random.default_rng(0).random((20, 3))
    items = [CloudItem(id=f"c{n}", cloud=make_cloud(points + n), patient=f"c{n}") for n in range(200)]
    folder = store_from_clouds(tmp_path / "store", items).folder
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(3):
            store = CloudStore.open(folder)
            with ThreadPoolExecutor(8) as pool:
                shapes = list(pool.map(lambda row, store=store: store.points(row).shape, range(len(items))))
            assert set(shapes) == {(20, 3)}
    finally:
        sys.setswitchinterval(before)
