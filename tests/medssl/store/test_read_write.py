"""Writing arrays into a store and reading windows from it."""

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from medssl.errors import CacheError, DataError
from medssl.store import read
from medssl.store.blocks import grid_of
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.index import read_index, read_record, stem_of
from medssl.store.read import Store
from medssl.store.write import write_entry


def make(folder, count=3, shape=(30, 70, 40)):
    generator = np.random.default_rng(0)
    items = [
        Item(id=f"s{i}", values=generator.integers(-900, 900, shape), split="val" if i == 2 else "train", patient="p")
        for i in range(count)
    ]
    return store_from_arrays(folder, items), items


def test_entries_come_back_as_they_were_written(tmp_path):
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])
    values = np.zeros((4, 5, 6), dtype=np.int16)
    record = write_entry(
        tmp_path, "x", values, affine, (values == 1).astype(np.uint8), modality="MR", slope=0.25, intercept=3.5,
        source_shape=(8, 9, 10), source_affine=np.eye(4) * 2, source_path="a.nii.gz", label_path="b.nii.gz",
        flags=["nonfinite-3"],
    )  # fmt: skip
    again = read_record(next((tmp_path / "scans").glob("*.json")))
    assert again == record
    assert again.entry.spacing_mm == (3.0, 2.0, 1.5)
    assert np.array_equal(again.entry.affine, affine)
    assert again.entry.source_shape == (8, 9, 10)
    assert again.flags == ("nonfinite-3",)
    assert again.entry.scale == (0.0, 16384.0)


def test_labels_take_the_smallest_type_and_come_back_as_int16(tmp_path):
    shape = (4, 5, 6)
    for i, (low, high, wanted) in enumerate([(0, 200, "uint8"), (-1, 100, "int8"), (0, 300, "int16")]):
        labels = np.full(shape, low)
        labels[1, 2, 3] = high
        store = store_from_arrays(tmp_path / str(i), [Item(id="a", values=np.zeros(shape, int), labels=labels)])
        file = store.folder / store.entries[0].label_file
        assert read.open_array(file).dtype == wanted
        assert store.labels(0).dtype == np.int16
        np.testing.assert_array_equal(store.labels(0), labels)
        assert set(store.classes) == {n for n in (0, low, high) if n >= 0} - ({0} if low == -1 else set())


def test_subsets_keep_order_and_share_files(tmp_path):
    store, items = make(tmp_path)
    part = store.subset(["s2", "s0"])
    assert [e.id for e in part.entries] == ["s2", "s0"]
    np.testing.assert_array_equal(part.values(0), items[2].values)
    assert [e.id for e in store.split("val").entries] == ["s2"]
    with pytest.raises(DataError, match="no scan 's9'"):
        store.subset(["s9"])


def test_a_store_travels_to_another_process(tmp_path):
    store, items = make(tmp_path)
    store.values(0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).values(1), items[1].values)


def test_many_threads_read_the_same_scans(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "_OPEN_ARRAYS", 2)  # fewer than scans: handles are closed while others read
    store, items = make(tmp_path, count=4, shape=(70, 70, 70))

    def one(number):
        generator = np.random.default_rng(number)
        index, origin = int(generator.integers(4)), tuple(int(v) for v in generator.integers(0, 40, 3))
        z, y, x = origin
        wanted = items[index].values[z : z + 30, y : y + 30, x : x + 30]
        return np.array_equal(store.window(index, origin, (30, 30, 30)), wanted)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(300)))
    assert len(store._arrays._held) <= 2


def test_small_scans_are_one_block_and_large_ones_are_cut():
    assert grid_of((35, 50, 36)) == ((35, 50, 36), (35, 50, 36))
    assert grid_of((200, 512, 512)) == ((64, 64, 64), (32, 32, 32))


def test_file_names_are_safe_and_distinct():
    assert stem_of("a/b", "0" * 64) != stem_of("a_b", "0" * 64)
    assert stem_of("a" * 300, "0" * 64) != stem_of("a" * 299, "0" * 64)
    assert "/" not in stem_of("../../etc", "0" * 64)
    assert not stem_of("../../etc", "0" * 64).startswith(".")


@pytest.mark.parametrize(
    ("values", "labels", "words"),
    [
        (np.zeros((3, 3, 3)), None, "float64"),
        (np.full((3, 3, 3), 40_000), None, "40000"),
        (np.zeros((3, 3), int), None, "shape"),
        (np.zeros((3, 3, 3), int), np.zeros((3, 3, 4), int), "must be equal"),
        (np.zeros((3, 3, 3), int), np.full((3, 3, 3), 0.5), "labels are float64"),
        (np.zeros((3, 3, 3), int), np.full((3, 3, 3), -2), "from -2"),
    ],
)
def test_what_a_store_cannot_hold_is_refused(tmp_path, values, labels, words):
    with pytest.raises(CacheError, match=words):
        store_from_arrays(tmp_path, [Item(id="a", values=values, labels=labels)])


def test_what_is_no_store_is_named(tmp_path):
    with pytest.raises(CacheError, match="no store"):
        Store.open(tmp_path)
    store, _ = make(tmp_path / "s")
    index = store.folder / "store.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 99}))
    with pytest.raises(CacheError, match="version 99"):
        Store.open(store.folder)
    index.write_text("{")
    with pytest.raises(CacheError, match="cannot be read"):
        Store.open(store.folder)
    (store.folder / store.entries[0].file).unlink()
    with pytest.raises(CacheError, match="missing"):
        Store(store.folder, store._index).values(0)
    with pytest.raises(DataError, match="no labels"):
        store.labels(1)


def test_the_index_holds_settings_and_classes(tmp_path):
    labels = np.zeros((4, 4, 4), int)
    labels[0, 0, 0] = 2
    store = store_from_arrays(
        tmp_path,
        [Item(id="a", values=labels, labels=labels)],
        classes={2: "liver"},
        settings={"spacing_mm": [1, 2, 3]},
    )
    index = read_index(store.folder)
    assert index.classes == store.classes == {0: "background", 2: "liver"}
    assert index.settings == {"spacing_mm": [1, 2, 3]}


HEAVY = ("SimpleITK", "open3d", "polars", "pandas", "pydicom", "nibabel", "monai", "skimage")


def heavy_after(statement, *more):
    code = f"import sys; {statement}; print([m for m in {(*HEAVY, *more)} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_reading_a_store_imports_nothing_heavy():
    assert heavy_after("import medssl.store.read", "torch", "scipy") == "[]"


def test_the_processes_that_fill_a_store_start_light():
    assert heavy_after("import medssl.store.build", "torch") == "[]"


@pytest.mark.slow
def test_loading_imports_torch_and_nothing_else_heavy():
    assert heavy_after("import medssl.loading") == "[]"
