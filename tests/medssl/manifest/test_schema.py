"""Manifests: what is kept comes back, what contradicts itself is refused."""

import numpy as np
import polars as pl
import pytest

from medssl.errors import ManifestError
from medssl.manifest.columns import COLUMNS
from medssl.manifest.file_name import manifest_file
from medssl.manifest.schema import Manifest, manifest_of_rows, read_manifest, write_manifest


def row(name: str, **more):
    return {
        "id": name, "path": f"/x/{name}.nii.gz", "modality": "CT", "patient": name, "shape": [4, 5, 6],
        "spacing_mm": [3.0, 0.1 + 0.2, 1e-17 + 1], "affine": np.eye(4).ravel().tolist(), "flags": ["constant"],
        "notes": ['sform, "odd": ü'], **more,
    }  # fmt: skip


def some(**more) -> Manifest:
    rows = [
        row("a", split="train", label_path="/x/l"),
        row("b, c", patient="a"),
        row("d", error="It is gone.", shape=None),
    ]
    return manifest_of_rows(rows, classes={0: "background", 1: "größe"}, notes=["one"], root="/x", settings={"s": [1]})


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_what_is_written_comes_back(tmp_path, suffix):
    manifest = some()
    path = tmp_path / "deep" / f"m{suffix}"
    write_manifest(manifest, path)
    again = read_manifest(path)
    assert again.frame.equals(manifest.frame)
    assert again.frame.schema == pl.Schema(COLUMNS)
    assert (again.classes, again.notes, again.root, again.settings) == (
        manifest.classes, manifest.notes, manifest.root, manifest.settings,
    )  # fmt: skip
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_defaults_and_the_parts_of_a_manifest():
    manifest = some()
    assert len(manifest) == 3
    assert next(r["paths"] for r in manifest.rows()) == ["/x/a.nii.gz"]
    assert [r["id"] for r in manifest.usable().rows()] == ["a", "b, c"]
    assert [r["id"] for r in manifest.labelled().rows()] == ["a"]
    assert [r["id"] for r in manifest.of_split("train").rows()] == ["a"]
    assert [r["id"] for r in manifest.subset(["d", "a"]).rows()] == ["a", "d"]
    summary = manifest.summary()
    assert (summary["scans"], summary["patients"], summary["labelled"], summary["unreadable"]) == (2, 1, 1, 1)


def test_it_shows_itself():
    assert "2 scans of 1 patients, 1 labelled, 1 unreadable" in repr(some())
    assert "<b>Manifest: 2 scans" in some()._repr_html_()
    assert "0 scans" in repr(manifest_of_rows([]))


def test_scans_that_nobody_names_are_strangers():
    manifest = manifest_of_rows([{"id": "a", "path": "/a"}, {"id": "b", "path": "/b", "patient": ""}])
    assert manifest.frame["patient"].to_list() == ["a", "b"]


def test_a_csv_by_hand_needs_two_columns(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text('id,path,split,shape\na,/a.nii,val,"[1, 2, 3]"\nb,/b.nii,,\n', encoding="utf-8")
    rows = list(read_manifest(path).rows())
    assert [r["split"] for r in rows] == ["val", ""]
    assert rows[0]["shape"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([row("a"), row("a")], "id 'a' is in 2 rows"),
        ([row("a", split="tset")], "'tset' in the column 'split'"),
        ([row("a", kind="mesh")], "'mesh' in the column 'kind'"),
        ([row("a", shape=[1, 2])], "'shape' of scan 'a' has 2 numbers"),
        ([row("a", spacing=[1])], "Did you mean 'spacing_mm'"),
        ([{"id": None, "path": "/a"}], "no id or path"),
    ],
)
def test_contradictions_are_refused(rows, what):
    with pytest.raises(ManifestError, match=what):
        manifest_of_rows(rows)


def test_files_that_are_no_manifest_are_refused_with_a_way_out(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.parquet")
    with pytest.raises(ManifestError, match=r"a \.parquet or a \.csv"):
        read_manifest(tmp_path / "m.json")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(ManifestError, match="not a readable manifest"):
        read_manifest(tmp_path / "text.parquet")
    (tmp_path / "other.csv").write_text("image,label\na,b\n")
    with pytest.raises(ManifestError, match=r"needs the column 'id'.*medssl index"):
        read_manifest(tmp_path / "other.csv")
    (tmp_path / "list.csv").write_text("id,path,shape\na,/a,oops\n")
    with pytest.raises(ManifestError, match="not a readable manifest"):
        read_manifest(tmp_path / "list.csv")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    write_manifest(some(), path)
    before = path.read_bytes()
    monkeypatch.setattr(pl.DataFrame, "write_parquet", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_manifest(some(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_ids_and_splits_are_refused():
    with pytest.raises(ManifestError, match="No scan has the id 'zz'"):
        some().subset(["zz"])
    with pytest.raises(ManifestError, match="Did you mean 'train'"):
        some().of_split("trian")


def test_a_folder_that_is_read_says_how_to_index_it_and_one_that_is_written_does_not(tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(ManifestError, match=r"medssl index \S*scans --out scans\.parquet"):
        read_manifest(tmp_path / "scans")
    with pytest.raises(ManifestError, match=r"is a \.parquet or a \.csv file") as refused:
        manifest_file(tmp_path / "scans")
    assert "medssl index" not in str(refused.value)
