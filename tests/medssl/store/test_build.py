"""Filling a store from a manifest: what is done again, what is not, what fails, and how it is checked."""

import os
import threading

import numpy as np
import pytest

from medssl.errors import ConfigError, DataError
from medssl.failure_notes import NOT_HERE
from medssl.formats.nifti import write_nifti
from medssl.manifest.describe import file_hash
from medssl.manifest.freshness import label_facts_of
from medssl.manifest.schema import manifest_of_rows
from medssl.store import build as building
from medssl.store import plan as planning
from medssl.store.build import build, superseded
from medssl.store.options import StoreSettings
from medssl.store.plan import make_plan, shard_of
from medssl.store.read import Store
from medssl.store.verify import verify


def row(path, **more):
    return {
        "id": path.name.split(".")[0], "path": str(path), "modality": "CT", "units": "HU",
        "shape": [8, 9, 10], "spacing_mm": [3.0, 2.0, 2.0], "affine": np.diag([2.0, 2, 3, 1]).ravel().tolist(),
        **more,
    }  # fmt: skip


@pytest.fixture
def cohort(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for i in range(4):
        path = tmp_path / "scans" / f"s{i}.nii.gz"
        write_nifti(path, generator.integers(-900, 900, (8, 9, 10)).astype(np.int16), np.diag([2.0, 2, 3, 1]))
        label = tmp_path / "labels" / f"s{i}.nii.gz"
        write_nifti(label, generator.integers(0, 3, (8, 9, 10)).astype(np.uint8), np.diag([2.0, 2, 3, 1]))
        rows.append(row(path, label_path=str(label), patient=f"p{i}", split="train"))
    return rows


def plan_of(rows, **settings):
    return make_plan(manifest_of_rows(rows, classes={0: "background", 1: "liver"}), StoreSettings(**settings))


def test_a_store_is_filled_and_listed_in_order(cohort, tmp_path):
    seen = []
    report = build(tmp_path / "store", plan_of(cohort), progress=seen.append)
    store = Store.open(tmp_path / "store")
    assert [e.id for e in store.entries] == ["s0", "s1", "s2", "s3"] == seen
    assert (report.listed, report.written, report.failed, report.waiting) == (4, 4, {}, 0)
    assert store.classes == {0: "background", 1: "liver", 2: "structure 2"}
    assert store.entries[1].patient == "p1"
    assert verify(store) == []


def times(folder):
    return {p.name: p.stat().st_mtime_ns for p in (folder / "scans").iterdir()}


def test_only_what_changed_is_done_again(cohort, tmp_path):
    folder = tmp_path / "store"
    build(folder, plan_of(cohort))
    before = times(folder)
    assert build(folder, plan_of(cohort)).written == 0
    assert times(folder) == before
    other = np.zeros((8, 9, 10), np.int16)
    other[2] = 50
    write_nifti(tmp_path / "scans" / "s1.nii.gz", other, np.diag([2.0, 2, 3, 1]))
    write_nifti(tmp_path / "labels" / "s2.nii.gz", (other > 0).astype(np.uint8), np.diag([2.0, 2, 3, 1]))
    again = plan_of(cohort)
    assert [job.id for job in again.missing(folder)] == ["s1", "s2"]
    assert build(folder, again).written == 2
    np.testing.assert_array_equal(Store.open(folder).values(1), other)
    assert len(superseded(folder, again)) == 8


def test_a_source_that_changed_after_indexing_is_noticed(cohort, tmp_path):
    file = tmp_path / "scans" / "s0.nii.gz"
    stat = file.stat()
    cohort[0] |= {"file_hash": file_hash([file]), "size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    known = plan_of(cohort).jobs[0].key
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert plan_of(cohort).jobs[0].key == known  # touched, but the bytes are the same
    write_nifti(file, np.ones((8, 9, 10), np.int16), np.diag([2.0, 2, 3, 1]))
    assert plan_of(cohort).jobs[0].key != known


def test_patients_and_splits_follow_the_manifest_without_writing_again(cohort, tmp_path):
    build(tmp_path / "store", plan_of(cohort))
    report = build(tmp_path / "store", plan_of([r | {"split": "val", "patient": "q"} for r in cohort]))
    assert report.written == 0
    assert {(e.split, e.patient) for e in Store.open(tmp_path / "store").entries} == {("val", "q")}


def test_scans_that_left_the_manifest_are_kept_but_not_listed(cohort, tmp_path):
    build(tmp_path / "store", plan_of(cohort))
    report = build(tmp_path / "store", plan_of(cohort[:2]))
    assert [e.id for e in Store.open(tmp_path / "store").entries] == ["s0", "s1"]
    assert report.written == 0
    assert build(tmp_path / "store", plan_of(cohort)).written == 0


def test_settings_concern_only_what_they_change(cohort, tmp_path):
    build(tmp_path / "store", plan_of(cohort))
    assert plan_of(cohort, spacing_mm=(3.0, 2.0, 4.0)).missing(tmp_path / "store")
    assert plan_of(cohort, hu_range=(-500, 500)).missing(tmp_path / "store")


def test_an_interrupted_run_goes_on_where_it_stopped(cohort, tmp_path, monkeypatch, in_this_process):
    honest, done = building.prepare, []

    def stops(folder, job):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.id)
        return honest(folder, job)

    monkeypatch.setattr(building, "prepare", stops)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "store", plan_of(cohort))
    monkeypatch.setattr(building, "prepare", honest)
    assert build(tmp_path / "store", plan_of(cohort)).written == 2
    assert verify(tmp_path / "store") == []


def test_one_bad_scan_is_listed_and_the_rest_goes_on(cohort, tmp_path):
    (tmp_path / "scans" / "s1.nii.gz").write_bytes(b"\x1f\x8b not really")
    (tmp_path / "labels" / "s2.nii.gz").unlink()
    cohort.append(row(tmp_path / "gone.nii.gz"))
    cohort.append(row(tmp_path / "known.nii.gz", error="it is a picture of a cat"))
    report = build(tmp_path / "store", plan_of(cohort))
    store = Store.open(tmp_path / "store")
    assert [e.id for e in store.entries] == ["s0", "s2", "s3"]
    assert sorted(store.failed) == ["gone", "known", "s1"] == sorted(report.failed)
    assert "s1.nii.gz" in report.failed["s1"]  # said with its file, and kept without
    assert "s1.nii.gz" not in store.failed["s1"]
    assert store.entries[1].label_file is None  # the scan is there, for pretraining
    assert "label-unreadable" in store.refused_labels["s2"]
    assert "s2: No such file" in store.refused_labels["s2"]
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "store").rglob("*.json"))
    assert "cat" in store.failed["known"]
    with pytest.raises(DataError, match="failed when the store was made"):
        store.subset(["s1"])


def test_shards_fill_one_store(cohort, tmp_path):
    first = build(tmp_path / "store", plan_of(cohort), shard=shard_of("1/3"))
    assert (first.written, first.waiting) == (2, 2)
    second = build(tmp_path / "store", plan_of(cohort), shard=shard_of("2/3"))
    third = build(tmp_path / "store", plan_of(cohort), shard=shard_of("3/3"))
    assert (second.written, third.written, third.waiting, third.listed) == (1, 1, 0, 4)
    for wrong in ("0/2", "3/2", "x", "1/0", "1"):
        with pytest.raises(ConfigError, match="shard"):
            shard_of(wrong)


def test_shards_that_end_at_once_lose_no_scan(cohort, tmp_path, monkeypatch):
    """A listing that was begun before another shard's and written after it had left that one's scans out."""
    honest, others = building.write_index, []

    def slow(*args, **kwargs):
        if not others:
            other = threading.Thread(target=build, args=(tmp_path / "store", plan_of(cohort)), kwargs={"shard": (1, 2)})
            others.append(other)
            other.start()
            other.join(timeout=2)  # time enough to end, were it not to wait
        return honest(*args, **kwargs)

    monkeypatch.setattr(building, "write_index", slow)
    build(tmp_path / "store", plan_of(cohort), shard=(0, 2))
    others[0].join()
    assert [entry.id for entry in Store.open(tmp_path / "store").entries] == ["s0", "s1", "s2", "s3"]
    assert not list((tmp_path / "store").glob(".*.lock"))


def test_what_one_shard_could_not_store_the_last_one_lists(cohort, tmp_path):
    """It had counted as left to other shards for ever."""
    bad = tmp_path / "scans" / "s0.nii.gz"
    whole = bad.read_bytes()
    bad.write_bytes(b"\x1f\x8b not really")
    build(tmp_path / "store", plan_of(cohort), shard=(0, 2))
    last = build(tmp_path / "store", plan_of(cohort), shard=(1, 2))
    assert (last.listed, last.waiting, list(last.failed)) == (3, 0, ["s0"])
    store = Store.open(tmp_path / "store")
    assert "s0" in store.failed
    assert "s0.nii.gz" not in "".join(path.read_text() for path in (tmp_path / "store").rglob("*.json"))
    assert superseded(tmp_path / "store", plan_of(cohort)) == []
    bad.write_bytes(whole)  # mended: what was noted is of another version
    assert build(tmp_path / "store", plan_of(cohort), shard=(1, 2)).waiting == 1
    assert build(tmp_path / "store", plan_of(cohort)).failed == {}
    assert Store.open(tmp_path / "store").failed == {}
    assert [path.name.endswith(".failed.json") for path in superseded(tmp_path / "store", plan_of(cohort))] == [True]


def test_what_another_machine_stored_elsewhere_is_no_success(cohort, tmp_path, monkeypatch):
    honest = building.run_jobs

    def far(work, jobs, **how):
        return honest(work, {number: (tmp_path / "far", job) for number, (_, job) in jobs.items()}, **how)

    monkeypatch.setattr(building, "run_jobs", far)
    report = build(tmp_path / "store", plan_of(cohort))
    assert (report.listed, report.written, report.waiting) == (0, 0, 0)
    assert set(report.failed.values()) == {NOT_HERE}


def by_shards(rows, folder, count=2):
    return [build(folder, plan_of(rows), shard=(number, count)) for number in range(count)]


def test_a_shard_with_nothing_to_do_looks_at_its_own_scans_alone(cohort, tmp_path, monkeypatch):
    by_shards(cohort, tmp_path / "store")
    listing = (tmp_path / "store" / "store.json").read_bytes()
    seen, honest = set(), planning.read_record
    monkeypatch.setattr(planning, "read_record", lambda path: (seen.add(path.name.split(".")[0]), honest(path))[1])
    monkeypatch.setattr(building, "write_index", lambda *_, **__: pytest.fail("made the listing anew"))
    again = build(tmp_path / "store", plan_of(cohort), shard=(0, 2))
    assert (again.listed, again.written, again.waiting, again.failed) == (4, 0, 0, {})
    assert {name.split("-")[0] for name in seen} == {"s0", "s2"}
    assert (tmp_path / "store" / "store.json").read_bytes() == listing


@pytest.mark.parametrize(
    "change",
    [
        lambda row: {"split": "val"},
        lambda row: {"patient": "q"},
    ],
)
def test_a_shard_that_has_other_news_of_its_scans_lists_them(cohort, tmp_path, change):
    by_shards(cohort, tmp_path / "store")
    changed = [row | change(row) for row in cohort]
    build(tmp_path / "store", plan_of(changed), shard=(0, 2))
    build(tmp_path / "whole", plan_of(changed))
    assert (tmp_path / "store" / "store.json").read_bytes() == (tmp_path / "whole" / "store.json").read_bytes()


def test_the_listing_has_a_line_a_scan_whatever_scans_are_called(cohort, tmp_path):
    for one, name in zip(cohort, ('a "b"', "ä\\n", "c,\t}", "]"), strict=True):
        one["id"] = name
    build(tmp_path / "store", plan_of(cohort))
    assert [entry.id for entry in Store.open(tmp_path / "store").entries] == [one["id"] for one in cohort]
    text = (tmp_path / "store" / "store.json").read_text(encoding="utf-8")
    assert sum(line.startswith('  {"id": ') for line in text.splitlines()) == 4


@pytest.mark.parametrize("lost", ["listing", "scan left", "record", "structure"])
def test_a_shard_with_nothing_to_do_mends_a_listing_that_is_not_as_it_should_be(cohort, tmp_path, lost):
    store = tmp_path / "store"
    by_shards(cohort, store)
    names = {0: "background", 1: "liver"}
    if lost == "listing":
        (store / "store.json").unlink()
    elif lost == "scan left":
        cohort.pop()
    elif lost == "record":
        next((store / "scans").glob("s0*.json")).write_text("{")
    else:
        names[1] = "spleen"
    plan = make_plan(manifest_of_rows(cohort, classes=names), StoreSettings())
    build(store, plan, shard=(0, 2))
    build(tmp_path / "whole", plan)
    assert (store / "store.json").read_bytes() == (tmp_path / "whole" / "store.json").read_bytes()


def test_a_label_is_not_hashed_again_until_its_file_is_touched(cohort, tmp_path, monkeypatch):
    label = tmp_path / "labels" / "s0.nii.gz"
    plain = plan_of(cohort).jobs[0].key
    cohort[0] |= label_facts_of(label, full=True)
    honest, hashed = planning.label_hash, []
    monkeypatch.setattr(planning, "label_hash", lambda path: (hashed.append(path.name), honest(path))[1])
    assert plan_of(cohort).jobs[0].key == plain  # stores of before stay as they are
    assert hashed == ["s1.nii.gz", "s2.nii.gz", "s3.nii.gz"]
    stat = label.stat()
    write_nifti(label, np.ones((8, 9, 10), np.uint8), np.diag([2.0, 2, 3, 1]))
    os.utime(label, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert plan_of(cohort).jobs[0].key != plain
    assert hashed.count("s0.nii.gz") == 1


@pytest.mark.slow
def test_processes_give_the_same_store(cohort, tmp_path):
    (tmp_path / "scans" / "s1.nii.gz").write_bytes(b"\x1f\x8b not really")
    build(tmp_path / "one", plan_of(cohort), workers=1)
    report = build(tmp_path / "two", plan_of(cohort), workers=2)
    assert list(report.failed) == ["s1"]
    one, two = Store.open(tmp_path / "one"), Store.open(tmp_path / "two")
    assert one.entries == two.entries
    for i in range(3):
        np.testing.assert_array_equal(one.values(i), two.values(i))
        np.testing.assert_array_equal(one.labels(i), two.labels(i))


class Bomb:
    """A job that ends the process it is sent to, as the system does when memory runs out."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.slow
def test_a_process_that_dies_costs_one_scan(cohort, tmp_path):
    jobs = plan_of(cohort).jobs
    bomb = Bomb()
    found = dict(building._in_parallel(tmp_path / "store", [jobs[0], bomb, *jobs[1:]], 2))
    assert found.pop(bomb) == building._KILLED
    assert found == dict.fromkeys(jobs)
    assert build(tmp_path / "store", plan_of(cohort)).written == 0


def test_the_median_voxel_size_is_taken_per_modality_and_after_turning(cohort):
    sagittal = np.array([[0, 0, 4.0, 0], [1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]])  # file z runs left-right
    rows = [
        r | {"modality": m, "units": "arbitrary", "affine": (sagittal * f).ravel().tolist()}
        for r, m, f in zip(cohort, ["MR", "MR", "MR", "PT"], [1, 1.5, 9, 2], strict=True)
    ]
    plan = plan_of(rows, spacing_mm="median")
    assert plan.spacings == {"MR": (3.0, 1.5, 6.0), "PT": (4.0, 2.0, 8.0)}
    assert plan.jobs[3].spacing_mm == (4.0, 2.0, 8.0)


def test_verify_names_every_kind_of_damage(cohort, tmp_path):
    build(tmp_path / "store", plan_of(cohort))
    store = Store.open(tmp_path / "store")
    image, label = (tmp_path / "store" / f for f in (store.entries[0].file, store.entries[1].label_file))
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(bytes(content))
    label.unlink()
    record = tmp_path / "store" / store.entries[2].file.replace(".b2nd", ".json")
    record.write_text("{")
    found = verify(tmp_path / "store")
    assert [(p.id, p.found.split()[0]) for p in found] == [("s0", "the"), ("s1", "the"), ("s2", str(record) + ":")]
    assert "checksum" in str(found[0])
    assert "missing" in str(found[1])
    assert build(tmp_path / "store", plan_of(cohort)).written == 2  # what is plainly not there is mended


def test_a_manifest_without_scans_is_refused(tmp_path):
    with pytest.raises(DataError, match="no readable scan"):
        plan_of([row(tmp_path / "a.nii.gz", error="unreadable")])
