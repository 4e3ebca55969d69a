"""``medssl reduce``, ``check-split`` and ``query`` from outside, on a folder with planted copies and bad files."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

import medssl
from medssl.errors import CacheError, ConfigError, DataError, ManifestError
from medssl.formats.nifti import write_nifti
from medssl.manifest.schema import read_manifest, write_manifest
from pipelines.cli import app

SHAPE, SPACING = (36, 40, 38), 3.0
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])


def body(seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return a synthetic scan: an ellipsoid with texture at several scales, in air."""
    noise = np.random.default_rng(seed)
    fine, coarse = (gaussian_filter(noise.standard_normal(shape), s) for s in (1.2, 4.0))
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    radii = noise.uniform(0.6, 0.9, 3).reshape(3, 1, 1, 1)
    inside = ((grid / radii) ** 2).sum(axis=0) < 1
    values = np.where(inside, 400 + 300 * fine / fine.std() + 200 * coarse / coarse.std(), 0)
    return values.clip(0, 2000).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six patients; copies of the first under other names, two frames of the second, and files that are none."""
    scans = tmp_path_factory.mktemp("data") / "scans"
    scans.mkdir()
    for n in range(6):
        write_nifti(scans / f"patient{n:03d}_a.nii.gz", body(n), AFFINE)
    first = body(0)
    shutil.copy(scans / "patient000_a.nii.gz", scans / "patient050.nii.gz")
    write_nifti(scans / "patient051.nii.gz", (first / 8).astype(np.uint8), AFFINE)
    write_nifti(scans / "patient052.nii.gz", np.ascontiguousarray(first[:, ::-1]), AFFINE)
    other = body(1) * 0.75 + body(9) * 0.25
    write_nifti(scans / "patient001_b.nii.gz", other.clip(0, 2000).astype(np.int16), AFFINE)
    (scans / "patient060.nii.gz").write_bytes(b"no scan at all")
    return scans


@pytest.fixture(scope="module")
def reduced(folder):
    manifest = folder.parent / "m.parquet"
    medssl.index(folder, out=manifest, modality="MR")
    result = medssl.reduce(manifest, out=folder.parent / "kept.parquet", jobs=1, overrides=["planted=1"])
    return manifest, folder.parent / "kept.parquet", result


def marks(path: Path) -> dict[str, dict]:
    return {row["id"]: row for row in read_manifest(path).rows()}


def test_copies_are_marked_at_their_level_and_nothing_is_deleted(folder, reduced):
    manifest, kept, result = reduced
    rows = marks(kept)
    assert set(rows) == set(marks(manifest))
    levels = {name: row["level"] for name, row in rows.items() if not row["keep"]}
    assert levels.pop("patient060") == "unreadable"
    assert set(levels.values()) == {"same file", "same image"}
    assert len(levels) == 3
    assert set(levels) < {"patient000_a", "patient050", "patient051", "patient052"}
    for name in levels:
        assert rows[rows[name]["representative"]]["keep"]
        assert rows[name]["score"] > 0.9
    assert {row["reason"] for row in rows.values() if row["level"] is None} == {
        "no copy of any other",
        "stands for 3 more",
    }
    assert len(result.kept) == 7
    assert len(list(folder.iterdir())) == 11


def test_each_group_lies_on_one_side_and_check_split_agrees(reduced):
    _, kept, _ = reduced
    sides: dict[str, set[str]] = {}
    for row in read_manifest(kept).usable().rows():
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert marks(kept)["patient001_a"]["group"] == marks(kept)["patient001_b"]["group"]
    assert medssl.check_split(kept, jobs=1).ok


def test_recall_on_planted_copies_is_measured_and_said(reduced, capsys, tmp_path):
    manifest, _, result = reduced
    assert sum(made for _, made in result.recall.values()) == 6
    medssl.reduce(manifest, out=tmp_path / "k.parquet", jobs=1, overrides=["planted=1"])
    assert "recall on planted copies: " in capsys.readouterr().out


def test_the_files_beside_it(reduced):
    _, kept, result = reduced
    pairs = list(csv.DictReader(kept.with_suffix(".pairs.csv").open()))
    assert list(pairs[0])[:3] == ["from", "to", "distance"]
    assert len(pairs) == len(result.found.matches)
    html = kept.with_suffix(".html").read_text()
    assert "patient060" in html
    assert "same image" in html
    assert "Nearly copies" in html
    assert "patient001_a and patient001_b: related" in html
    assert "<svg" in html
    assert "data:image/" in html
    assert str(kept.parent) not in html


def test_the_store_holds_what_is_kept_and_check_passes(reduced, tmp_path):
    _, kept, result = reduced
    store = medssl.cache(kept, out=tmp_path / "store", overrides=["workers=1"]).store
    assert sorted(entry.id for entry in store.entries) == sorted(result.kept)
    assert not [f for f in medssl.check(kept, out=tmp_path, overrides=["pictures=0"]).findings if f.kind == "duplicate"]


def test_a_second_run_reads_nothing_and_says_the_same(reduced, tmp_path, monkeypatch, in_this_process):
    manifest, kept, _ = reduced

    def read(*_):
        raise AssertionError("read again")

    monkeypatch.setattr("medssl.reduction.index.fingerprint", read)
    monkeypatch.setattr("medssl.reduction.fingerprint.read_target", read)
    again = tmp_path / "again.parquet"
    medssl.reduce(manifest, out=again, jobs=1, overrides=["planted=1", "pictures=0"])
    assert again.read_bytes() == kept.read_bytes()
    assert again.with_suffix(".pairs.csv").read_bytes() == kept.with_suffix(".pairs.csv").read_bytes()


def test_reducing_what_was_reduced_changes_nothing(reduced, tmp_path):
    _, kept, result = reduced
    again = medssl.reduce(kept, out=tmp_path / "again.parquet", jobs=1, overrides=["planted=0", "pictures=0"])
    assert again.kept == result.kept
    assert {n: r["level"] for n, r in marks(tmp_path / "again.parquet").items()} == {
        n: r["level"] for n, r in marks(kept).items()
    }


COVERING = ("hash", "embedding", "semdedup", "kcentre")


@pytest.mark.parametrize("by", ["random", "every", *COVERING, "semdedup-published", "balanced"])
def test_a_strategy_keeps_exactly_as_many_as_asked_for(reduced, tmp_path, by):
    manifest = reduced[0]
    given = {"jobs": 1, "overrides": ["planted=0", "pictures=0", "thin=[train,val,test]", "splits=leave"]}
    result = medssl.reduce(manifest, out=tmp_path / "k.parquet", by=by, keep=4, **given)
    assert len(result.kept) == 4
    rows = marks(tmp_path / "k.parquet")
    for row in rows.values():
        told = row["keep"] or row["level"] in ("unreadable", "not chosen") or row["level"].startswith("same")
        assert told
        if by in COVERING and row["level"] not in (None, "unreadable"):
            assert rows[row["representative"]]["keep"]
    again = medssl.reduce(tmp_path / "k.parquet", out=tmp_path / "k2.parquet", by=by, keep=4, **given)
    assert again.kept == result.kept


def test_a_strategy_leaves_val_and_test_as_they_are(reduced, tmp_path):
    manifest, kept, whole = reduced
    medssl.reduce(
        manifest, out=tmp_path / "k.parquet", by="random", keep="30%", jobs=1, overrides=["planted=0", "pictures=0"]
    )
    before, after = marks(kept), marks(tmp_path / "k.parquet")
    others = [name for name in whole.kept if marks(manifest)[name]["split"] != "train"]
    assert others
    assert all(after[name]["keep"] for name in others)
    assert sum(after[n]["keep"] for n in whole.kept) < sum(before[n]["keep"] for n in whole.kept)


def test_no_pair_is_looked_at_where_nothing_is_done_with_copies(reduced, tmp_path, capsys):
    overrides = ["planted=0", "pictures=0", "copies=false", "splits=leave"]
    result = medssl.reduce(
        reduced[0],
        out=tmp_path / "k.parquet",
        by="every",
        keep=4,
        jobs=1,
        index=tmp_path / "prints",
        overrides=overrides,
    )
    assert "no pairs are compared" in capsys.readouterr().out
    assert result.found.matches == ()
    assert marks(tmp_path / "k.parquet")["patient060"]["level"] == "unreadable"


def test_own_embeddings(reduced, tmp_path):
    manifest = reduced[0]
    ids = read_manifest(manifest).frame["id"].to_list()
    vectors = np.eye(len(ids), dtype=np.float32) + 1
    np.save(tmp_path / "v.npy", vectors)
    given = {"jobs": 1, "by": "kcentre", "keep": 3}
    rules = ["planted=0", "pictures=0", "thin=[train,val,test]"]
    one = medssl.reduce(
        manifest, out=tmp_path / "a.parquet", overrides=[*rules, f"embeddings={tmp_path / 'v.npy'}"], **given
    )
    pl.DataFrame({"id": ids, "vector": vectors.tolist()}).write_parquet(tmp_path / "v.parquet")
    two = medssl.reduce(
        manifest, out=tmp_path / "b.parquet", overrides=[*rules, f"embeddings={tmp_path / 'v.parquet'}"], **given
    )
    assert one.kept == two.kept
    np.save(tmp_path / "short.npy", vectors[:3])
    with pytest.raises(ConfigError, match="a row of finite numbers for each"):
        medssl.reduce(manifest, out=tmp_path / "c.parquet", overrides=[f"embeddings={tmp_path / 'short.npy'}"], **given)


def test_related_scans_are_a_policy(reduced, tmp_path):
    manifest, _, result = reduced
    related = {(m.first, m.second) for m in result.found.matches if m.verdict.level.value == "related"}
    one = medssl.reduce(
        manifest, out=tmp_path / "one.parquet", jobs=1, overrides=["related=one", "planted=0", "pictures=0"]
    )
    assert len(one.kept) == 7 - len({second for _, second in related})


def test_shards_come_to_the_same_bytes(reduced, tmp_path):
    manifest, kept, _ = reduced
    given = {"index": tmp_path / "prints", "jobs": 1, "overrides": ["planted=0", "pictures=0"]}
    first = medssl.reduce(manifest, out=tmp_path / "k.parquet", shard="1/2", **given)
    assert first.manifest is None
    assert not (tmp_path / "k.parquet").exists()
    second = medssl.reduce(manifest, out=tmp_path / "k.parquet", shard="2/2", **given)
    whole, parts = marks(kept), marks(tmp_path / "k.parquet")
    assert parts == whole
    assert second.kept


def test_check_split_names_each_pair_and_exits_with_1(reduced, tmp_path):
    manifest, _, _ = reduced
    source = read_manifest(manifest)
    split = {"patient000_a": "train", "patient052": "test", "patient001_a": "train", "patient001_b": "val"}
    frame = source.frame.with_columns(
        split=pl.Series([split.get(n, "") for n in source.frame["id"].to_list()], dtype=pl.String)
    )
    write_manifest(source.with_frame(frame), tmp_path / "leaky.parquet")
    words = [
        "check-split",
        str(tmp_path / "leaky.parquet"),
        "--index",
        str(manifest.with_name("m.prints")),
        "--json",
        "-j",
        "1",
    ]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 1
    said = json.loads(ran.stdout)
    pairs = {(p["first"], p["second"]): p["level"] for p in said["pairs"]}
    assert pairs[("patient000_a", "patient052")] == "same image"
    assert ("patient001_a", "patient001_b") in pairs
    assert len(pairs) == 2
    html = (tmp_path / "check-split.html").read_text()
    assert "patient052 (test)" in html
    assert json.loads((tmp_path / "check-split.json").read_text())["ok"] is False
    medssl.reduce(
        tmp_path / "leaky.parquet", out=tmp_path / "mended.parquet", jobs=1, overrides=["planted=0", "pictures=0"]
    )
    assert medssl.check_split(tmp_path / "mended.parquet", jobs=1).ok


def test_two_manifests_are_two_sides(reduced, tmp_path):
    manifest, _, _ = reduced
    source = read_manifest(manifest)
    write_manifest(source.subset(["patient000_a", "patient002_a"]), tmp_path / "train.parquet")
    write_manifest(source.subset(["patient050", "patient003_a"]), tmp_path / "test.parquet")
    result = medssl.check_split(tmp_path / "train.parquet", test=tmp_path / "test.parquet", jobs=1)
    assert [(p.first, p.second, p.level) for p in result.leaks] == [("patient000_a", "patient050", "same file")]
    write_manifest(source.subset(["patient000_a"]), tmp_path / "one.parquet")
    with pytest.raises(DataError, match="nothing to compare"):
        medssl.check_split(tmp_path / "one.parquet")


def test_query_finds_a_copy_and_nothing_for_a_stranger(folder, reduced, tmp_path):
    prints = reduced[0].with_name("m.prints")
    write_nifti(tmp_path / "new.nii.gz", np.ascontiguousarray(body(2)[::-1]), AFFINE)
    found = medssl.query(tmp_path / "new.nii.gz", index=prints).answers
    assert (found[0].id, found[0].verdict.level.value) == ("patient002_a", "same image")
    assert found[0].verdict.variant.name() == "zyx flip z"
    write_nifti(tmp_path / "stranger.nii.gz", body(77), AFFINE)
    answers = medssl.query(tmp_path / "stranger.nii.gz", index=prints, overrides=["nearest=2"]).answers
    assert not [a for a in answers if a.verdict is not None and a.verdict.level.is_copy]
    ran = CliRunner().invoke(app, ["query", str(folder / "patient052.nii.gz"), "--index", str(prints), "--json"])
    said = json.loads(ran.stdout)
    assert said["copies"] == 1
    assert said["answers"][0] | {"level": "same file", "stored": "patient052"} == said["answers"][0]
    with pytest.raises(CacheError, match="Make one with: medssl reduce"):
        medssl.query(folder / "patient052.nii.gz", index=tmp_path)


def test_a_dry_run_writes_nothing(reduced, tmp_path):
    manifest = tmp_path / "m.parquet"
    shutil.copy(reduced[0], manifest)
    assert medssl.reduce(manifest, out=tmp_path / "k.parquet", dry_run=True).manifest is None
    medssl.check_split(manifest, dry_run=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m.parquet"]


def test_mistakes_are_named(reduced, tmp_path):
    manifest = reduced[0]
    for words, said in (
        ({"by": "kcenter"}, "Did you mean 'kcentre'"),
        ({"by": "random", "keep": "-3"}, "allowed is a number of scans"),
        ({"keep": "0.5"}, "takes neither keep nor near"),
        ({"shard": "3/2"}, "shard must be i/n"),
    ):
        with pytest.raises(ConfigError, match=said):
            medssl.reduce(manifest, out=tmp_path / "k.parquet", **words)
    with pytest.raises(ConfigError, match="needs to know how many to keep"):
        medssl.reduce(manifest, out=tmp_path / "k.parquet", by="random", jobs=1, overrides=["planted=0"])


@pytest.mark.slow
def test_killed_and_started_again_it_comes_to_the_same_and_reads_nothing_twice(reduced, tmp_path):
    manifest, kept, _ = reduced
    source = read_manifest(manifest)
    prints, out = tmp_path / "prints", tmp_path / "k.parquet"
    # Each scan takes a while and leaves its name, so that the kill falls between scans and readings can be counted.
    code = f"""
import time
from pathlib import Path
import medssl
from medssl.reduction import fingerprint as f
real = f.read_target
def slow(target):
    with Path({str(tmp_path / "read.txt")!r}).open("a") as log:
        log.write(target.id + "\\n")
    time.sleep(0.2)
    return real(target)
f.read_target = slow
medssl.reduce({str(manifest)!r}, out={str(out)!r}, index={str(prints)!r}, jobs=1, overrides=["planted=0", "pictures=0"])
"""
    log = tmp_path / "read.txt"

    def names() -> list[str]:
        return log.read_text().split() if log.exists() else []

    journal = prints / "journal-1-of-1.jsonl"
    runs = 0
    while not out.exists() and runs < 12:
        runs += 1
        before = len(names())
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([sys.executable, "-c", code], **quiet) as run:
            until = time.monotonic() + 120
            while run.poll() is None and time.monotonic() < until and len(names()) < before + 5:
                time.sleep(0.02)
            run.send_signal(signal.SIGKILL)
            run.wait()
    assert runs > 1, "it was never killed while at work"
    assert out.exists()
    assert marks(out) == marks(kept)
    done = [json.loads(line)["id"] for line in journal.read_bytes().splitlines() if line.strip()]
    assert sorted(done) == sorted(set(done)) == sorted(row["id"] for row in source.usable().rows())
    looked = [json.loads(line)["key"] for line in (prints / "verdicts.jsonl").read_bytes().splitlines() if line.strip()]
    assert len(looked) == len(set(looked)) > 0
    # A kill costs what was in hand, never what was done.
    assert len(names()) <= len(done) + 2 * len(looked) + 5 * (runs - 1)


RULES = ["planted=0", "pictures=0", "thin=[train,val,test]"]


def test_hash_6_on_slices_keeps_what_the_paper_keeps(folder, reduced, tmp_path):
    from medssl.reduction.parts import kept_slices, read_parts
    from tests.oracles.hash_6 import reduce_by_hash

    manifest, _, _ = reduced
    out = tmp_path / "k.parquet"
    result = medssl.reduce(manifest, out=out, by="hash", unit="slice", jobs=1, overrides=RULES)
    kept = kept_slices(tmp_path / "k.slices.parquet")
    assert sorted(kept) == sorted(result.kept)
    for n in range(2, 6):
        volume = body(n)
        published = reduce_by_hash(volume)
        places, count = kept[f"patient{n:03d}_a"]
        assert count == len(volume)
        np.testing.assert_array_equal(places, np.flatnonzero(published == np.arange(count)))
    frame = read_parts(tmp_path / "k.slices.parquet")
    left = frame.filter(~pl.col("keep"))
    assert left.height > 0
    assert left["distance"].max() <= 6
    names = {f"{name}/{index}" for name, index in frame.filter("keep").select("id", "index").iter_rows()}
    assert set(left["representative"]) <= names


@pytest.mark.parametrize(
    "by", ["random", "every", "hash", "ssim", "mi", "embedding", "semdedup", "kcentre", "balanced"]
)
def test_slices_at_equal_size_within_a_scan_and_over_all(reduced, tmp_path, by):
    from medssl.reduction.parts import kept_slices

    manifest, _, _ = reduced
    for within in ("scan", "dataset"):
        out = tmp_path / f"{within}.parquet"
        given = [*RULES, f"within={within}", "axis=y"]
        medssl.reduce(manifest, out=out, by=by, keep=0.25, unit="slice", jobs=1, overrides=given)
        found = kept_slices(tmp_path / f"{within}.slices.parquet", axis="y")
        assert sum(len(places) for places, _ in found.values()) == 7 * 10  # a quarter of 40 slices of 7 scans
        if within == "scan":
            assert {len(places) for places, _ in found.values()} == {10}


@pytest.mark.parametrize("by", ["hash", "kcentre", "ssim"])
def test_blocks_cover_the_scan(reduced, tmp_path, by):
    from medssl.reduction.parts import read_parts

    manifest, _, _ = reduced
    given = [*RULES, "block=[16,16,16]"]
    medssl.reduce(manifest, out=tmp_path / "k.parquet", by=by, keep=0.5, unit="block", jobs=1, overrides=given)
    frame = read_parts(tmp_path / "k.blocks.parquet")
    for (_,), rows in frame.group_by("id"):
        seen = np.zeros(rows["shape"][0].to_list(), dtype=bool)
        for start, stop in zip(rows["start"].to_list(), rows["stop"].to_list(), strict=True):
            assert [b - a for a, b in zip(start, stop, strict=True)] == [16, 16, 16]
            seen[tuple(map(slice, start, stop))] = True
        assert seen.all()
        assert rows["keep"].sum() == rows.height // 2 + rows.height % 2


@pytest.mark.parametrize("by", ["ssim", "mi"])
def test_pictures_of_whole_scans(reduced, tmp_path, by):
    result = medssl.reduce(reduced[0], out=tmp_path / "k.parquet", by=by, keep=4, jobs=1, overrides=RULES)
    assert len(result.kept) == 4


def test_a_network_of_random_weights_makes_vectors(reduced, tmp_path):
    given = [*RULES, "network=timm:resnet10t"]
    result = medssl.reduce(reduced[0], out=tmp_path / "k.parquet", by="kcentre", keep=4, jobs=1, overrides=given)
    assert len(result.kept) == 4
    with pytest.raises(ConfigError, match="Did you mean"):
        medssl.reduce(
            reduced[0], out=tmp_path / "k.parquet", by="kcentre", keep=4, jobs=1, overrides=["network=timm:resnet10x"]
        )
    with pytest.raises(ConfigError, match="needs a strategy"):
        medssl.reduce(reduced[0], out=tmp_path / "k.parquet", unit="slice")


@pytest.mark.parametrize("by", ["random", "kcentre"])
def test_cases_of_several_channels_are_chosen_whole(tmp_path, by):
    """Half of six cases, not half of twelve scans: a case that lost a channel would be left out of every store."""
    for n in range(6):
        for k, name in enumerate(("t1", "t2")):
            write_nifti(tmp_path / "d" / f"P{n:02d}" / f"P{n:02d}_{name}.nii.gz", body(10 * n + k), AFFINE)
    for name in ("t1", "t2"):  # a patient twice, under another name
        (tmp_path / "d" / "P77").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "d" / "P00" / f"P00_{name}.nii.gz", tmp_path / "d" / "P77" / f"P77_{name}.nii.gz")
    file, out = tmp_path / "m.parquet", tmp_path / "r.parquet"
    medssl.index(tmp_path / "d", out=file, overrides=["val=0", "test=0"])
    medssl.reduce(file, out=out, by=by, keep="0.5", overrides=["planted=0", "pictures=0"])
    manifest = read_manifest(out)
    by_case = {}
    for row in manifest.rows():
        by_case.setdefault(row["case"], set()).add(row["keep"])
    assert len(by_case) == 7
    assert all(len(keeps) == 1 for keeps in by_case.values())
    assert sum(True in keeps for keeps in by_case.values()) == 4  # half of seven, rounded up
    assert not (by_case["P00"] == by_case["P77"] == {True})
    store = medssl.cache(out, out=tmp_path / "store", overrides=["workers=1"]).store
    assert {entry.id for entry in store.entries} == {case for case, keeps in by_case.items() if True in keeps}


def test_slices_of_a_case_are_chosen_once_and_a_store_finds_them(tmp_path):
    from medssl.reduction.parts import kept_slices, read_parts
    from medssl.store.read import Store
    from medssl.volumes.training import chosen_slices

    for n in range(3):
        for k, name in enumerate(("t1", "t2")):
            write_nifti(tmp_path / "d" / f"P{n:02d}" / f"P{n:02d}_{name}.nii.gz", body(10 * n + k), AFFINE)
    file, out = tmp_path / "m.parquet", tmp_path / "r.parquet"
    medssl.index(tmp_path / "d", out=file, overrides=["val=0", "test=0"])
    given = ["planted=0", "pictures=0"]
    medssl.reduce(file, out=out, unit="slice", by="kcentre", keep="0.3", overrides=given)
    table = kept_slices(tmp_path / "r.slices.parquet")
    assert sorted(table) == ["P00", "P01", "P02"]
    assert read_parts(tmp_path / "r.slices.parquet")["id"].n_unique() == 3
    depth = body(0).shape[0]
    assert {count for _, count in table.values()} == {depth}
    assert {len(kept) for kept, _ in table.values()} == {-(-depth * 3 // 10)}
    medssl.cache(out, out=tmp_path / "store", overrides=["workers=1"])
    chosen = chosen_slices(str(tmp_path / "r.slices.parquet"), Store.open(tmp_path / "store"))
    assert sorted(chosen) == ["P00", "P01", "P02"]


@pytest.mark.parametrize("name", ["red", "red.json", "folder.csv"])
def test_a_wrong_name_for_the_manifest_is_refused_before_a_scan_is_read(reduced, folder, tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ManifestError, match=f"{name}: a manifest is a"):
        medssl.reduce(folder.parent / "m.parquet", out=tmp_path / name, index=tmp_path / "prints")
    assert not (tmp_path / "prints").exists()
