"""Cases with several channels: what is written, read back, lacking and refused; old stores open as they are."""

from __future__ import annotations

import json
from pathlib import Path

import blosc2
import numpy as np
import pytest

from medssl.errors import CacheError
from medssl.store.build import Plan, superseded
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.options import StoreSettings
from medssl.store.read import Store
from medssl.store.verify import verify
from medssl.store.write import ChannelImage, write_entry

NAMES = ("adc", "dwi", "t2")


def drawn(seed: int, shape: tuple[int, ...] = (3, 20, 70, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 900, shape).astype(np.int16)


def item(number: int, **more: object) -> Item:
    return Item(id=f"case {number}", values=drawn(number), channels=NAMES, modality=("MR", "MR", "CT"), **more)


def test_channels_come_back_bit_for_bit_in_their_order(tmp_path: Path) -> None:
    store = store_from_arrays(tmp_path, [item(0), item(1)])
    again = Store.open(tmp_path)
    assert store.channels == again.channels == NAMES
    entry = again.entries[1]
    for number, channel in enumerate(entry.channels):
        assert channel.name == NAMES[number]
        stored = blosc2.open(str(tmp_path / channel.file))[:]  # the library itself, without our reader
        np.testing.assert_array_equal(stored, drawn(1)[number])
        np.testing.assert_array_equal(again.values(1, number), drawn(1)[number])
    assert [c.modality for c in entry.channels] == ["MR", "MR", "CT"]
    assert [c.scale for c in entry.channels] == [(0.0, 16384.0)] * 2 + [(-1000.0, 1000.0)]
    assert [c.fill for c in entry.channels] == [int(drawn(1)[0].min()), int(drawn(1)[1].min()), -1024]
    assert (entry.file, entry.modality, entry.fill) == (entry.channels[0].file, "MR", entry.channels[0].fill)


@pytest.mark.parametrize("origin", [(2, 5, 7), (-3, 60, -2), (40, 0, 0)])
def test_a_window_of_all_channels_is_that_of_each(tmp_path: Path, origin: tuple[int, int, int]) -> None:
    store, size = store_from_arrays(tmp_path, [item(0)]), (9, 12, 11)
    found = store.windows(0, origin, size)
    out = np.zeros((3, *size), np.int16)
    assert store.windows(0, origin, size, out=out) is out
    np.testing.assert_array_equal(found, out)
    for number, channel in enumerate(store.entries[0].channels):
        padded = np.full([n + 200 for n in (20, 70, 30)], channel.fill, np.int16)
        padded[100:120, 100:170, 100:130] = drawn(0)[number]
        z, y, x = (slice(o + 100, o + 100 + s) for o, s in zip(origin, size, strict=True))
        np.testing.assert_array_equal(found[number], padded[z, y, x])


def test_a_lacking_channel_is_marked_and_is_what_becomes_zero(tmp_path: Path) -> None:
    store = store_from_arrays(tmp_path, [item(0, lacks=("adc", "t2")), item(1)])
    entry = store.entries[0]
    assert entry.present == (False, True, False)
    assert (entry.file, entry.channels[2].file) == ("", "")
    found = store.windows(0, (0, 0, 0), (4, 4, 4))
    assert (found[0] == 0).all()
    assert (found[2] == -1000).all()  # HU that become 0 in a network
    np.testing.assert_array_equal(found[1], drawn(0)[1, :4, :4, :4])
    assert verify(store) == []
    nothing = Plan(jobs=(), unreadable={}, settings=StoreSettings(), spacings={}, classes={})
    assert {path.name for path in superseded(tmp_path, nothing)} >= {f"{e.stem}.json" for e in store.entries}


def test_what_is_damaged_in_any_channel_is_found(tmp_path: Path) -> None:
    store = store_from_arrays(tmp_path, [item(0)])
    (tmp_path / store.entries[0].channels[1].file).write_bytes(b"?")
    assert [problem.file for problem in verify(store)] == [store.entries[0].channels[1].file]


def test_the_body_is_that_of_all_channels(tmp_path: Path) -> None:
    values = np.zeros((2, 40, 40, 40), np.int16)
    values[0, 5:20, 10:30, 10:30] = 900
    values[1, 15:35, 10:30, 10:30] = 900
    store = store_from_arrays(tmp_path, [Item(id="a", values=values, channels=("t1", "t2"), modality="MR")])
    (low, *_), (high, *_) = store.entries[0].body_box
    assert (low, high) == (5, 35)


def test_one_case_in_several_versions_has_files_of_its_own(tmp_path: Path) -> None:
    whole, empty = drawn(0)[0], None
    records = [
        write_entry(tmp_path, "a", [ChannelImage(name="t1", values=x), ChannelImage(name="t2", values=y)], np.eye(4))
        for x, y in ((whole, empty), (empty, whole), (whole, whole))
    ]
    assert len({record.entry.stem for record in records}) == 3


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="2 channels are named"):
        store_from_arrays(tmp_path, [Item(id="a", values=drawn(0), channels=("t1", "t2"))])
    with pytest.raises(CacheError, match="names of their own"):
        store_from_arrays(tmp_path, [Item(id="a", values=drawn(0), channels=("t1", "t1", "t2"))])
    with pytest.raises(CacheError, match="no channel of the case has values"):
        store_from_arrays(tmp_path, [item(0, lacks=NAMES)])
    images = [ChannelImage(name=n, values=np.zeros(s, int)) for n, s in (("t1", (2, 3, 4)), ("t2", (2, 3, 5)))]
    with pytest.raises(CacheError, match=r"one grid.*t1 \(2, 3, 4\), t2 \(2, 3, 5\)"):
        write_entry(tmp_path, "a", images, np.eye(4))
    with pytest.raises(CacheError, match="axes"):
        store_from_arrays(tmp_path, [Item(id="a", values=drawn(0))])
    other = Item(id="b", values=drawn(0), channels=("dwi", "adc", "t2"))
    with pytest.raises(CacheError, match=r"'b' are dwi, adc, t2, and those of the store adc, dwi, t2"):
        store_from_arrays(tmp_path, [item(0), other])
    store_from_arrays(tmp_path / "c", [item(0)])
    listing = json.loads((tmp_path / "c" / "store.json").read_text())
    listing["channels"] = ["t1", "t2", "t3"]
    (tmp_path / "c" / "store.json").write_text(json.dumps(listing))
    with pytest.raises(CacheError, match="those of the store t1, t2, t3"):
        Store.open(tmp_path / "c")


def test_a_store_written_before_channels_opens_and_gives_the_same(tmp_path: Path) -> None:
    values = drawn(4, (10, 12, 14))
    blosc2.asarray(values, urlpath=str(tmp_path / "a.b2nd"), mode="w")
    row = {
        "id": "a", "file": "a.b2nd", "label_file": None, "modality": "CT", "patient": "", "split": "",
        "shape": [10, 12, 14], "spacing_mm": [1.0, 1.0, 1.0], "affine": np.eye(4).tolist(),
        "body_box": [[0, 0, 0], [10, 12, 14]], "scale": [-1000.0, 1000.0], "slope": 1.0, "intercept": 0.0,
        "fill": -1024, "source_shape": [10, 12, 14], "source_affine": np.eye(4).tolist(), "source_path": "x.nii",
        "label_path": None, "targets": [],
    }  # fmt: skip
    listing = {"version": 1, "settings": {}, "classes": {}, "failed": {}, "entries": [row]}
    (tmp_path / "store.json").write_text(json.dumps(listing))
    store = Store.open(tmp_path)
    assert store.channels == ("image",)
    assert store.entries[0].channels[0].source_path == "x.nii"
    np.testing.assert_array_equal(store.windows(0, (0, 0, 0), (10, 12, 14)), values[None])


def test_a_scan_without_a_name_is_listed_as_it_always_was(tmp_path: Path) -> None:
    store_from_arrays(tmp_path, [Item(id="a", values=drawn(4, (10, 12, 14)))])
    listing = json.loads((tmp_path / "store.json").read_text())
    assert "channels" not in listing
    assert not {"channel", "more"} & set(listing["entries"][0])
