"""A folder of clouds with everything that goes wrong in real ones: verbs name each, and the rest goes on."""

from __future__ import annotations

import io
import json
import pickle
import re
import shlex
import struct
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.manifest.schema import read_manifest
from pipelines.cli import app
from pointcloud.shapes import shape
from pointcloud.store import CloudStore

GOOD = {f"{name}-{index}": shape(name, index, seed=0, points=128) for name in ("torus", "cup") for index in range(3)}
POINTS = GOOD["torus-0"].points
PLY = (
    "ply\nformat {order} 1.0\nelement vertex {rows}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
)


def rows(points):
    return "".join(" ".join(map(repr, point)) + "\n" for point in np.asarray(points, dtype=float).tolist()).encode()


def npy(values, **options):
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def las(points):
    import laspy

    made = laspy.LasData(laspy.LasHeader(point_format=0, version="1.2"))
    if len(points):
        made.x, made.y, made.z = np.asarray(points, dtype=np.float64).T
    file = io.BytesIO()
    made.write(file)
    return file.getvalue()


# File -> its bytes, and a word of the reason that a person would understand.
REFUSED = {
    "empty.ply": (b"", "empty"),
    "empty.npy": (b"", "empty"),
    "page.ply": (b"<!doctype html><p>404</p>", "not a PLY"),
    "truncated.ply": (PLY.format(order="binary_little_endian", rows=128).encode() + POINTS.tobytes()[:-7], "truncated"),
    "wrong_order.ply": (PLY.format(order="binary_sideways", rows=128).encode() + POINTS.tobytes(), "binary_sideways"),
    "words.ply": (PLY.format(order="ascii", rows=1).encode() + b"one two three\n", "not the 3 numbers"),
    "wrong_type.pcd": (
        b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F Q\nCOUNT 1 1 1\nWIDTH 9\nHEIGHT 1\nPOINTS 9\nDATA binary\n",
        "no PCD type",
    ),
    "short.pts": (b"200\n" + rows(POINTS), "promises 200"),
    "ragged.xyz": (rows(POINTS[:9]) + b"1 2\n", "Line 10"),
    "word.csv": (b"x,y,z\n0,0,0\n1,one,1\n", "'one'"),
    "truncated.npy": (npy(POINTS)[:-9], "damaged"),
    "pickled.npy": (npy(np.array([{"a": 1}], dtype=object), allow_pickle=True), "Python objects"),
    "pickle.npy": (pickle.dumps([1, 2]), "pickles are never opened"),
    "complex.npy": (npy(POINTS.astype(complex)), "complex"),
    "truncated.npz": (npz(points=POINTS)[:-30], "not an .npz archive|damaged|truncated"),
    "truncated.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "damaged"),
    "one.xyz": (b"1 2 3\n", "one point"),
    "one_place.xyz": (b"1 2 3\n" * 9, "one place"),
    "all_nan.npy": (npy(np.full((9, 3), np.nan)), "Every point"),
    "astronomic.npy": (npy(POINTS.astype(float) * 1e200), "span"),
    "zero.las": (las([]), "0 points|no points"),
    "truncated.las": (las(POINTS)[:-30], "damaged|truncated"),
    "no_surface.stl": (b"\0" * 80 + struct.pack("<I", 0), "0 faces"),
    "flat_faces.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", "has an area"),
    "wrong_index.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "names vertex 8"),
}
# File -> its bytes, what `index` says of it at once (None: nothing), the kind of finding of `check`.
FLAGGED = {
    "nan.npy": (npy(np.vstack([POINTS, [[np.nan, 0, 0]]])), "1 of 129 points have NaN", "missing-points"),
    "stray.npy": (npy(np.vstack([POINTS, [[1e6, 0, 0]]])), "1 points lie more than", "strays"),
    "no_faces.off": (b"OFF\n80 0 0\n" + rows(POINTS[:80]), "no faces", "no-faces"),
    "twice.npy": (npy(np.vstack([POINTS, POINTS[:3]])), None, "doubled-points"),
    "far.npy": (npy(POINTS.astype(float) + 4e6), None, "far-from-the-origin"),
    "few.xyz": (rows(POINTS[:20]), None, "few-points"),
    "flat.xyz": (rows(POINTS * [1, 1, 0]), None, "flat"),
    "shuffled.ply": (
        PLY.format(order="binary_little_endian", rows=128).encode() + POINTS[::-1].tobytes(),
        None,
        "duplicate",
    ),
}
BESIDE = {
    "notes.txt": b"These scans were made in spring.\n",
    "scores.csv": b"id,score\na,1\nb,2\n",
    "values.npy": npy(np.zeros(7)),
}


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Take the folder through index, check and cache, as a person would."""
    home = tmp_path_factory.mktemp("bad")
    folder = home / "Clouds of Jörg № 1"
    folder.mkdir()
    for name, (content, _) in REFUSED.items():
        (folder / name).write_bytes(content)
    for name, (content, _, _) in FLAGGED.items():
        (folder / name).write_bytes(content)
    for name, content in BESIDE.items():
        (folder / name).write_bytes(content)
    for name, cloud in GOOD.items():
        np.save(folder / f"{name}.npy", cloud.points)
    runner, manifest = CliRunner(), home / "clouds.parquet"
    steps = {
        "index": ["index", str(folder), "--out", str(manifest), "workers=1"],
        "check": ["check", str(manifest), "--out", str(home / "check.html"), "privacy=paths"],
        "cache": ["cache", str(manifest), "--out", str(home / "store"), "workers=1", "privacy=paths"],
    }
    return folder, {verb: runner.invoke(app, words) for verb, words in steps.items()}


def row_of(folder: Path, name: str) -> dict:
    (row,) = [
        row for row in read_manifest(folder.parent / "clouds.parquet").rows() if row["path"] == str(folder / name)
    ]
    return row


def findings_of(folder: Path, name: str) -> list[dict]:
    findings = json.loads((folder.parent / "check.json").read_text(encoding="utf-8"))["findings"]
    return [finding for finding in findings if finding["path"] == str(folder / name)]


def test_every_verb_ends_as_promised(walked):
    _, outcomes = walked
    assert {verb: outcome.exit_code for verb, outcome in outcomes.items()} == {"index": 0, "check": 1, "cache": 0}
    assert not [verb for verb, outcome in outcomes.items() if "Traceback" in outcome.output]


def test_what_cache_proposes_can_be_pasted(walked):
    _, outcomes = walked
    (proposed,) = [line for line in outcomes["cache"].output.splitlines() if line.startswith("next: medssl pretrain")]
    told = CliRunner().invoke(app, [*shlex.split(proposed)[2:], "--dry-run"])
    assert told.exit_code == 0, told.output


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_a_row_with_its_reason(walked, name):
    folder, _ = walked
    row = row_of(folder, name)
    assert row["kind"] == "cloud"
    assert re.search(REFUSED[name][1], row["error"]), row["error"]
    (finding,) = findings_of(folder, name)
    assert (finding["severity"], finding["what"]) == ("error", row["error"])
    assert finding["todo"]
    assert name in (folder.parent / "check.html").read_text(encoding="utf-8")


def test_index_names_the_first_and_counts_the_rest(walked):
    _, outcomes = walked
    named = [name for name in REFUSED if name in outcomes["index"].output]
    assert len(named) >= 8
    assert f"and {len(REFUSED) - 8} more" in outcomes["index"].output


@pytest.mark.parametrize("name", FLAGGED)
def test_what_looks_wrong_is_flagged(walked, name):
    folder, outcomes = walked
    _, said, kind = FLAGGED[name]
    assert row_of(folder, name)["error"] is None
    found = {finding["kind"] for name in (name, "torus-0.npy") for finding in findings_of(folder, name)}
    assert kind in found
    if said:
        assert re.search(f"{re.escape(name)}: .*{said}", outcomes["index"].output)


def test_the_rest_goes_through(walked):
    folder, _ = walked
    manifest = read_manifest(folder.parent / "clouds.parquet")
    usable = {Path(row["path"]).name for row in manifest.usable().rows()}
    assert usable == set(FLAGGED) | {f"{name}.npy" for name in GOOD}
    assert {row["split"] for row in manifest.usable().rows()} == {"train", "val", "test"}
    store = CloudStore.open(folder.parent / "store")
    assert {Path(entry.source_path).name for entry in store.entries} == usable
    assert store.failed == {}
    assert all(np.isfinite(store.points(row)).all() for row in range(len(store)))


def test_files_that_are_no_clouds_are_left_alone(walked):
    folder, _ = walked
    paths = {Path(row["path"]).name for row in read_manifest(folder.parent / "clouds.parquet").rows()}
    assert not paths & set(BESIDE)


def test_the_leak_of_a_shuffled_copy_is_found(tmp_path):
    """The same points in another order and format, as one class in the training and the test folder."""
    for split, points in (("train", POINTS), ("test", POINTS[::-1])):
        (tmp_path / "s" / split / "torus").mkdir(parents=True)
        (tmp_path / "s" / split / "torus" / f"{split}.xyz").write_bytes(rows(points))
    runner = CliRunner()
    assert runner.invoke(app, ["index", str(tmp_path / "s"), "--out", str(tmp_path / "m.parquet")]).exit_code == 0
    outcome = runner.invoke(app, ["check", str(tmp_path / "m.parquet")])
    assert outcome.exit_code == 1
    findings = json.loads((tmp_path / "m-check.json").read_text(encoding="utf-8"))["findings"]
    assert [f["what"] for f in findings if f["kind"] == "leak"] == [
        "the same points are in the splits test and train: torus-test, torus-train"
    ]
