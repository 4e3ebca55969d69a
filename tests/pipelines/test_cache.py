"""The verb ``cache``: manifest in, store out, and what it says on the way."""

import json
import sys

import numpy as np
import pytest

from medssl.errors import ConfigError, DataError
from medssl.formats.nifti import write_nifti
from medssl.manifest.schema import manifest_of_rows, write_manifest
from medssl.phantoms import phantom
from medssl.store.verify import verify
from medssl.workflows.cache import cache
from medssl.workflows.index import index
from pipelines import console
from pointcloud.shapes import shape


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for subject in range(3):
        made = phantom(subject, modality="CT", shape=(20, 28, 28), spacing_mm=(12.0, 12.0, 12.0))
        path, label = tmp_path / f"s{subject}.nii.gz", tmp_path / f"l{subject}.nii.gz"
        write_nifti(path, made.values, made.affine)
        write_nifti(label, made.labels, made.affine)
        rows.append(
            {"id": f"s{subject}", "path": str(path), "label_path": str(label), "modality": "CT", "units": "HU",
             "shape": [20, 28, 28], "spacing_mm": [12.0, 12.0, 12.0], "affine": made.affine.ravel().tolist(),
             "split": "val" if subject == 2 else "train"}
        )  # fmt: skip
    write_manifest(manifest_of_rows(rows), tmp_path / "manifest.parquet")
    return tmp_path / "manifest.parquet"


@pytest.mark.parametrize(("gpu", "preset"), [(True, "masked"), (False, "masked_small")])  # too few for positions
def test_a_store_is_made_and_the_next_command_said(manifest, tmp_path, capsys, monkeypatch, gpu, preset):
    monkeypatch.setattr(sys.modules["medssl.workflows.cache"], "_has_gpu", lambda: gpu)
    store = cache(manifest, out=tmp_path / "store", overrides=["spacing_mm=[15,15,15]", "workers=1"]).store
    assert len(store) == 3
    assert store.entries[0].spacing_mm == pytest.approx((15.0, 15.0, 15.0))
    assert store.settings["spacing_mm"] == [15.0, 15.0, 15.0]
    assert verify(store) == []
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"next: medssl pretrain {preset} --data {tmp_path / 'store'} --out runs/store"
    assert "3 scans in the store" in said
    cache(manifest, out=tmp_path / "store", overrides=["spacing_mm=[15,15,15]", "workers=1"])
    assert "3 are already stored" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(manifest, tmp_path, capsys):
    assert cache(manifest, out=tmp_path / "store", dry_run=True).store is None
    assert not (tmp_path / "store").exists()
    said = capsys.readouterr().out
    assert "would store s0" in said
    assert "at most" in said


def test_bad_scans_are_named_and_the_rest_is_stored(manifest, tmp_path, capsys):
    (tmp_path / "s1.nii.gz").write_bytes(b"\x1f\x8b")
    store = cache(manifest, out=tmp_path / "store", overrides=["workers=1"]).store
    assert [e.id for e in store.entries] == ["s0", "s2"]
    assert "s1 was left out" in capsys.readouterr().err
    for i in (0, 2):
        (tmp_path / f"s{i}.nii.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match="none of the 3 scans"):
        cache(manifest, out=tmp_path / "other", overrides=["workers=1"])


def test_one_split_and_wrong_settings(manifest, tmp_path):
    store = cache(manifest, out=tmp_path / "store", overrides=["split=val", "workers=1"]).store
    assert [e.id for e in store.entries] == ["s2"]
    with pytest.raises(ConfigError, match="spacing_mm"):
        cache(manifest, out=tmp_path / "x", overrides=["spacing_mm=[1,1]"])
    with pytest.raises(ConfigError, match="above 0"):
        cache(manifest, out=tmp_path / "x", overrides=["spacing_mm=[1,1,0]"])
    with pytest.raises(ConfigError, match="'crop'"):
        cache(manifest, out=tmp_path / "x", overrides=["cropp=true"])


def test_superseded_files_are_kept_until_asked(manifest, tmp_path, capsys):
    cache(manifest, out=tmp_path / "store", overrides=["workers=1"])
    (tmp_path / "store" / "scans" / "notes.txt").write_text("mine")
    cache(manifest, out=tmp_path / "store", overrides=["workers=1", "crop=true"])
    assert "12 files" in capsys.readouterr().out
    assert len(list((tmp_path / "store" / "scans").iterdir())) == 25
    store = cache(manifest, out=tmp_path / "store", overrides=["workers=1", "crop=true", "prune=true"]).store
    assert len(list((tmp_path / "store" / "scans").iterdir())) == 13
    assert verify(store) == []


def test_the_facts_are_there_for_programs(manifest, tmp_path, capsys):
    with console.speaking(console.Manner(as_json=True)):
        cache(manifest, out=tmp_path / "store", overrides=["workers=1"])
    facts = json.loads(capsys.readouterr().out)
    assert (facts["listed"], facts["new"], facts["failed"]) == (3, 3, {})
    assert facts["written"] == [str(tmp_path / "store" / "store.json")]


@pytest.mark.realdata
def test_real_scans(tmp_path, request):
    import os
    from pathlib import Path

    root = os.environ.get("MEDSSL_DATA")
    if not root:
        pytest.skip("MEDSSL_DATA names no folder of real scans")
    files = [
        *sorted((Path(root) / "hippocampus").rglob("imagesTr/*.nii*"))[:3],
        *sorted((Path(root) / "ct").glob("*.nii*"))[:1],
    ]
    files = [f for f in files if not f.name.startswith("._")]
    assert files
    rows = [
        {"id": f.name.split(".")[0], "path": str(f), "modality": "CT" if f.parent.name == "ct" else "MR",
         "units": "HU" if f.parent.name == "ct" else "arbitrary"}
        for f in files
    ]  # fmt: skip
    store = cache(manifest_of_rows(rows), out=tmp_path / "store", overrides=["workers=1"]).store
    assert len(store) == len(files)
    for i, entry in enumerate(store.entries):
        low, high = entry.body_box
        inside = store.values(i)[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        share = np.mean((inside >= entry.scale[0]) & (inside <= entry.scale[1]))
        assert share > (0.98 if entry.modality == "MR" else 0.6), entry.id


def test_clouds_take_the_only_target_for_their_class(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    lines = ["file,species,site"]
    for n in range(12):
        np.save(tmp_path / "in" / f"t{n}.npy", shape("cup", n, seed=0, points=80).points)
        lines.append(f"t{n}.npy,{('oak', 'ash')[n % 2]},{n % 3}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    only = {"targets": str(tmp_path / "t.csv"), "targets_columns": {"species": "species"}}
    manifest = index(tmp_path / "in", out=tmp_path / "m.parquet", **only).manifest
    assert {json.loads(row["targets"])["species"] for row in manifest.rows() if row["split"] == "test"} == {
        "oak",
        "ash",
    }
    store = cache(tmp_path / "m.parquet", out=tmp_path / "store").store
    assert set(store.classes.values()) == {"oak", "ash"}
    assert "classes come from the only target, 'species'" in capsys.readouterr().out
    index(tmp_path / "in", out=tmp_path / "two.parquet", targets=str(tmp_path / "t.csv"))
    assert not cache(tmp_path / "two.parquet", out=tmp_path / "other").store.classes
    assert "there are site, species: take one with target=NAME" in capsys.readouterr().err
