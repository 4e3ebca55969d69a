"""A large listing is read line by line, and says the same as when it is read whole."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medssl.domains.choosing import choose_items
from medssl.domains.data_settings import DataSettings
from medssl.errors import CacheError, DataError
from medssl.normalising import Statistics
from medssl.step_loader import patient_numbers
from medssl.store import index as indexing
from medssl.store.entry import Channel, Entry
from medssl.store.index import read_index, write_index
from medssl.store.lines import LINES, ListedEntries
from medssl.store.normalised import normalised
from medssl.store.read import Store

COUNT = 60


def entry_at(number: int, **other: object) -> Entry:
    """Return an entry that differs from every other in most fields."""
    random = np.random.default_rng(number)
    affine = tuple(tuple(row) for row in random.normal(size=(4, 4)).tolist())
    values = {
        "id": f"scän {(number * 37) % COUNT:03d}",
        "file": f"scans/s{number}.b2nd",
        "label_file": f"scans/s{number}.labels.b2nd" if number % 3 else None,
        "modality": "CT",
        "patient": f"p{number // 2}" if number % 5 else "",
        "split": ("train", "val", "test", "")[number % 4],
        "shape": (number + 1, 9, 10),
        "spacing_mm": (1.0, 0.1 + number, 2.5),
        "affine": affine,
        "body_box": ((0, 0, 0), (number + 1, 9, 10)),
        "scale": (-1000.0, 400.0),
        "slope": 1.0,
        "intercept": 0.0,
        "fill": -1000,
        "source_shape": (1, 2, 3),
        "source_affine": affine,
        "source_path": "",
        "targets": (("grade", "ä\n"),) if number % 2 else (),
        **other,
    }
    return Entry(**values)  # type: ignore[arg-type]


def listed(folder: Path, entries: list[Entry]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    known = {
        entry.id: (Statistics(mean=number / 7, deviation=1.0, tissue=(0.1, 2.0), sketch=tuple(range(number))),)
        for number, entry in enumerate(entries)
        if number % 4
    }
    write_index(
        folder, entries, settings={"a": [1, 2.0]}, classes={0: "background", 1: "ørgan"}, failed={"bad": "why"},
        refused_labels={"x": "kind: reason"}, manifest="../m.parquet", statistics=known,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(indexing, "LINES_FROM", 10)
    listed(tmp_path / "s", [entry_at(number) for number in range(COUNT)])
    return tmp_path / "s"


def eager(folder: Path) -> Store:
    """Read the same store whole."""
    other = folder.with_name("whole")
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    shutil.copy(folder / "store.json", other)
    store = Store.open(other)
    assert isinstance(store.entries, tuple)
    return store


def test_read_by_lines_it_says_what_it_says_read_whole(folder: Path) -> None:
    by_lines, whole = read_index(folder), read_index(eager(folder).folder)
    assert isinstance(by_lines.entries, ListedEntries)
    assert by_lines.entries == whole.entries
    assert tuple(by_lines.entries) == whole.entries
    assert [repr(one) for one in by_lines.entries] == [repr(entry_at(number)) for number in range(COUNT)]
    assert dict(by_lines.statistics) == dict(whole.statistics)
    assert len(by_lines.statistics) == COUNT - COUNT // 4
    assert replace(by_lines, entries=(), statistics={}) == replace(whole, entries=(), statistics={})


def test_small_listings_have_no_columns(tmp_path: Path) -> None:
    listed(tmp_path / "s", [entry_at(number) for number in range(COUNT)])
    assert not (tmp_path / "s" / LINES).exists()
    assert isinstance(Store.open(tmp_path / "s").entries, tuple)


def test_parts_are_the_same_parts(folder: Path) -> None:
    store, whole = Store.open(folder), eager(folder)
    ids = [f"scän {number:03d}" for number in (5, 59, 0, 7)]
    parts: list[Callable[[Store], Store]] = [
        lambda s: s.split("val"),
        lambda s: s.subset(ids),
        lambda s: s.split("train").subset(s.split("train").field("id")[3:1:-1]),
        lambda s: s.split("nothing"),
        lambda s: s.with_entries(s.entries[2:9:3]),
        lambda s: normalised(s, [("unit", None)]),
        lambda s: choose_items(s, DataSettings(held_out_share=0.2), seed=3).train,
        lambda s: choose_items(s, DataSettings(held_out_split="val", held_out_scans=4), seed=3).held_out or s,
    ]
    for part in parts:
        lazy, known = part(store), part(whole)
        assert isinstance(lazy.entries, ListedEntries)
        assert tuple(lazy.entries) == known.entries
        assert len(lazy) == len(known)
        assert patient_numbers(lazy) == patient_numbers(known)
        for name in ("id", "patient", "split", "label_file", "stem", "shape"):
            assert lazy.field(name) == known.field(name)
        assert [lazy.entries[-1]] == list(known.entries[-1:]) if len(known) else True
    assert str(store.sheet()).replace("whole", "s") == str(whole.sheet()).replace("whole", "s")
    with pytest.raises(DataError, match="has no scan 'scan 005'"):
        store.subset(["scan 005"])
    with pytest.raises(DataError, match="It failed when the store was made: why"):
        store.subset(["bad"])
    with pytest.raises(IndexError):
        store.entries[COUNT]


def test_found_by_id_as_a_dictionary_finds(folder: Path) -> None:
    entries = Store.open(folder).entries
    assert isinstance(entries, ListedEntries)
    for place, name in enumerate(entries.column("id") or ()):
        assert entries._lines.find(name) == place
    assert [entries._lines.find(name) for name in ("", "scän 0", "scän 0300", "z", 3)] == [None] * 5


def test_a_part_says_that_it_is_one(folder: Path) -> None:
    store = Store.open(folder)
    assert os.fspath(store) == str(folder)
    with pytest.raises(CacheError, match="15 of its 60 scans"):
        os.fspath(store.split("train"))


def test_what_was_edited_or_copied(folder: Path) -> None:
    listing = folder / "store.json"
    before, found = listing.read_bytes(), listing.stat()
    os.utime(listing, ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))  # as of a copy: its SHA-256 says that it is it
    assert isinstance(Store.open(folder).entries, ListedEntries)
    listing.write_bytes(before.replace(b'"train"', b'"trail"'))  # of the same length
    store = Store.open(folder)
    assert isinstance(store.entries, tuple)
    assert len(store.split("trail")) == COUNT // 4
    listing.write_bytes(before + b"\n")
    assert isinstance(Store.open(folder).entries, tuple)


@pytest.mark.parametrize("at", [0, 0.1, 0.5, 0.99])
def test_damaged_columns_are_not_believed(folder: Path, at: float) -> None:
    whole = eager(folder).entries
    columns = folder / LINES
    honest = columns.read_bytes()
    columns.write_bytes(honest[: int(len(honest) * at)])
    assert tuple(Store.open(folder).entries) == whole
    seen = 0
    for place in range(int(len(honest) * at), len(honest), 1301):  # a byte that is another says nothing false
        columns.write_bytes(honest[:place] + bytes([honest[place] ^ 255]) + honest[place + 1 :])
        with suppress(CacheError):
            assert tuple(Store.open(folder).entries) == whole
            continue
        seen += 1
    assert at > 0.1 or seen  # some fall on what only reading a line shows


def test_nothing_is_chosen_by_a_damaged_column(folder: Path) -> None:
    right = eager(folder).split("train").entries
    columns = folder / LINES
    honest, seen = columns.read_bytes(), 0
    for place in [match.start() for match in re.finditer(b"train", honest)]:
        columns.write_bytes(honest[:place] + b"T" + honest[place + 1 :])
        with pytest.raises(CacheError, match=r"the column split of store\.lines\.npz"):
            Store.open(folder).split("train")
        seen += 1
    columns.write_bytes(honest)
    assert seen == len(right) > 1
    assert tuple(Store.open(folder).split("train").entries) == right


def test_a_new_listing_leaves_no_columns_of_the_old(folder: Path) -> None:
    listed(folder, [entry_at(number) for number in range(5)])
    assert not (folder / LINES).exists()
    assert len(Store.open(folder)) == 5
    twice = [entry_at(number) for number in range(20)]
    listed(folder, [*twice, twice[0]])  # ids that are not each its own are found by no search
    assert not (folder / LINES).exists()
    assert len(Store.open(folder)) == 21


def test_workers_read_the_same_or_say_that_it_is_another(folder: Path) -> None:
    store = Store.open(folder).split("train")
    sent = pickle.dumps(store)
    assert len(sent) < 2000
    assert pickle.loads(sent).entries == store.entries
    open_still = Store.open(folder)
    listed(folder, [entry_at(number, split="test") for number in range(COUNT)])
    with pytest.raises(CacheError, match="made anew since the store was opened"):
        pickle.loads(sent)
    assert open_still.entries[0] == entry_at(0)  # what was opened is read to the end


def test_another_process_reads_a_part(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(pickle.dumps(Store.open(folder).subset(["scän 003", "scän 001"])))
    code = (
        "import pickle, sys; s = pickle.load(open(sys.argv[1], 'rb')); print([e.id for e in s.entries] == sys.argv[2:])"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "sent"), "scän 003", "scän 001"]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == "True"


def test_several_channels(folder: Path) -> None:
    more = (Channel(name="t2", file="", modality="MR", scale=(0.0, 1.0)),)
    entries = [entry_at(number, channel="t1", more=more) for number in range(COUNT)]
    listed(folder, entries)
    store = Store.open(folder)
    assert isinstance(store.entries, ListedEntries)
    assert store.channels == ("t1", "t2")
    assert tuple(store.entries) == tuple(entries)


def test_statistics_are_asked_by_the_scan(folder: Path) -> None:
    known = read_index(folder).statistics
    assert known["scän 037"][0] == Statistics(mean=1 / 7, deviation=1.0, tissue=(0.1, 2.0), sketch=(0,))
    assert known.get("scän 000", ()) == ()
    assert "nobody" not in known


def test_damaged_statistics_are_said_where_they_are_asked(tmp_path: Path) -> None:
    listed(tmp_path, [entry_at(number) for number in range(4)])
    listing = tmp_path / "store.json"
    listing.write_text(listing.read_text(encoding="utf-8").replace('"mean"', '"meen"'), encoding="utf-8")
    with pytest.raises(CacheError, match="the statistics of 'scän 037' are damaged"):
        Store.open(tmp_path)._index.statistics["scän 037"]
