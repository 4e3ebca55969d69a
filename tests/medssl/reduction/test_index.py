"""The table of fingerprints: the same bytes however it was made, nothing read twice, bad files listed."""

from __future__ import annotations

import os

import numpy as np
import pytest

from medssl.errors import CacheError
from medssl.formats.nifti import write_nifti
from medssl.manifest.build import build_manifest
from medssl.phantoms import phantom
from medssl.reduction import index
from medssl.reduction.fingerprint import Target, fingerprint, targets_of
from medssl.reduction.index import TABLE, make_fingerprints, read_index
from medssl.reduction.places import CLOUD_PLACES, read_places


@pytest.fixture
def targets(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    made = []
    for number in range(4):
        one = phantom(number, shape=(12, 16, 14), spacing_mm=(20.0, 18.0, 18.0), seed=1)
        path = folder / f"s{number}.nii.gz"
        write_nifti(path, one.values, one.affine)
        made.append(Target(id=f"s{number}", path=str(path)))
    bad = folder / "a_bad.nii.gz"
    bad.write_bytes(b"nothing to see")
    return [*made, Target(id="a_bad", path=str(bad))]


def test_the_table_reads_back_as_it_was_made(tmp_path, targets):
    made = make_fingerprints(targets, tmp_path / "prints")
    assert (made.read, made.reused, made.waiting, list(made.failed)) == (5, 0, 0, ["a_bad"])
    stored = read_index(tmp_path / "prints")
    assert stored.ids == ["s0", "s1", "s2", "s3"]
    assert stored.codes("box").shape == (4, 8)
    assert stored.failures[0].id == "a_bad"
    expected = fingerprint(targets[0])
    for name in ("file_hash", "content_hash", "shape", "spacing_mm", "box_mm", "statistics"):
        assert getattr(stored.fingerprints[0], name) == getattr(expected, name)
    for name in ("field", "box", "slices", "points", "point_codes"):
        np.testing.assert_array_equal(getattr(stored.fingerprints[0], name), getattr(expected, name))


def test_shards_in_any_order_make_the_same_bytes(tmp_path, targets):
    whole = make_fingerprints(targets, tmp_path / "whole").table
    first = make_fingerprints(targets[::-1], tmp_path / "shards", shard=(1, 2))
    assert first.table is None
    assert first.waiting == 3
    second = make_fingerprints(targets, tmp_path / "shards", shard=(0, 2))
    assert second.table is not None
    assert second.table.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_processes_make_the_same_bytes(tmp_path, targets):
    whole = make_fingerprints(targets, tmp_path / "whole").table
    pooled = make_fingerprints(targets, tmp_path / "pooled", workers=2).table
    assert pooled.read_bytes() == whole.read_bytes()


def test_a_killed_run_goes_on_where_it_was(tmp_path, targets, monkeypatch, in_this_process):
    whole = make_fingerprints(targets, tmp_path / "whole").table
    calls = []

    class KilledError(BaseException):
        pass

    def dying(target):
        calls.append(target.id)
        if len(calls) == 4:
            raise KilledError
        return fingerprint(target)

    monkeypatch.setattr(index, "fingerprint", dying)
    with pytest.raises(KilledError):
        make_fingerprints(targets, tmp_path / "killed")
    journal = next((tmp_path / "killed").glob("journal-*"))
    with journal.open("ab") as file:
        file.write(b'{"version": 2, "id": "s2", "cut')  # the line that was being written
    assert not (tmp_path / "killed" / TABLE).exists()
    made = make_fingerprints(targets, tmp_path / "killed")
    # a_bad failed and is tried again; s2 was in hand; nothing else is read twice
    assert calls == ["a_bad", "s0", "s1", "s2", "a_bad", "s2", "s3"]
    assert made.reused == 2
    assert made.table.read_bytes() == whole.read_bytes()


def test_only_what_changed_is_read_again(tmp_path, targets):
    make_fingerprints(targets, tmp_path / "prints")
    path = tmp_path / "scans" / "s1.nii.gz"
    path.write_bytes((tmp_path / "scans" / "s0.nii.gz").read_bytes())
    os.utime(path, ns=(10**18, 10**18))  # older than before: whatever differs counts
    assert make_fingerprints(targets, tmp_path / "prints").read == 2  # and the bad one
    stored = read_index(tmp_path / "prints").fingerprints
    assert stored[0].content_hash == stored[1].content_hash
    assert make_fingerprints(targets, tmp_path / "prints").read == 1


def test_faults_are_told(tmp_path, targets):
    with pytest.raises(CacheError, match="same id"):
        make_fingerprints([targets[0], targets[0]], tmp_path / "x")
    with pytest.raises(CacheError, match="no shard"):
        make_fingerprints(targets, tmp_path / "x", shard=(2, 2))
    with pytest.raises(CacheError, match="no fingerprints here"):
        read_index(tmp_path / "x")
    (tmp_path / TABLE).write_bytes(b"broken")
    with pytest.raises(CacheError, match="cannot be read"):
        read_index(tmp_path)


def test_targets_come_from_a_manifest(tmp_path, targets):
    manifest, _ = build_manifest(tmp_path / "scans", workers=1)
    found = targets_of(list(manifest.rows()))
    assert sorted(target.path for target in found) == sorted(target.path for target in targets[:-1])


def test_a_folder_may_lack_clouds_and_not_scans(tmp_path):
    assert read_places(tmp_path, CLOUD_PLACES) == {}
    with pytest.raises(CacheError, match="medssl reduce MANIFEST --index"):
        read_places(tmp_path)
