"""A place found in other scans: in itself, in a turned copy at the voxel that it has there, and not in noise."""

import json

import numpy as np
import pytest

from medssl.errors import ConfigError, MedSSLError
from medssl.formats.nifti import write_nifti
from medssl.phantoms.anatomy import phantom
from medssl.workflows.match import match
from tests.pipelines.test_dense_probe import run_of

SHAPE = (16, 32, 32)
POINT = (7, 12, 20)


@pytest.fixture
def scans(tmp_path):
    made = phantom(0, shape=SHAPE, spacing_mm=(5.0, 5.0, 5.0))
    paths = {name: tmp_path / f"{name}.nii.gz" for name in ("one", "same", "turned", "noise")}
    write_nifti(paths["one"], made.values, made.affine)
    write_nifti(paths["same"], made.values, made.affine)
    # the same scan with x running from right to left in its file
    turned = made.affine.copy()
    turned[:3, 0] *= -1
    turned[:3, 3] += made.affine[:3, 0] * (SHAPE[2] - 1)
    write_nifti(paths["turned"], made.values[:, :, ::-1].copy(), turned)
    noise = np.random.default_rng(0).normal(0, 300, SHAPE).astype(np.int16)
    write_nifti(paths["noise"], noise, made.affine)
    return paths


def asked(run, scans, *others, **more):
    return match(
        run, scans["one"], point=",".join(map(str, POINT)), into=[scans[name] for name in others], **more
    ).matches


def test_the_same_place_is_found_in_a_copy_and_in_a_turned_one(tmp_path, scans, capsys):
    run = run_of(tmp_path / "run")
    same, turned, noise = asked(run, scans, "same", "turned", "noise", out=tmp_path / "out")
    assert same.point == POINT
    assert turned.point == (POINT[0], POINT[1], SHAPE[2] - 1 - POINT[2])
    for found in (same, turned):
        assert found.distance == pytest.approx(0, abs=1e-3)
        assert found.ratio < 0.5
        assert found.back_mm == 0
        assert found.certainty == "the way back ends near the point"
    np.testing.assert_allclose(same.point_mm, turned.point_mm, atol=1e-3)
    assert noise.distance > 0.1
    assert noise.ratio > 0.5
    written = json.loads((tmp_path / "out" / "match.json").read_text())
    assert [row["point"] for row in written["matches"]][:2] == [list(POINT), list(turned.point)]
    assert (tmp_path / "out" / "match.png").read_bytes()[:4] == b"\x89PNG"
    told = " ".join(capsys.readouterr().out.split())
    assert "certainty is a rule of thumb" in told


def test_a_scan_that_cannot_be_read_is_said_and_the_others_go_on(tmp_path, scans, capsys):
    (tmp_path / "bad.nii.gz").write_bytes(b"no scan")
    (found,) = asked(
        run_of(tmp_path / "run"), scans | {"bad": tmp_path / "bad.nii.gz"}, "bad", "same", out=tmp_path / "out"
    )
    assert found.point == POINT
    assert "bad" in capsys.readouterr().err


def test_what_is_asked_wrongly_is_said(tmp_path, scans):
    run = run_of(tmp_path / "run")
    for point, said in (
        ("1,2", "three whole numbers"),
        ("99,2,2", "lies outside one"),
        ("a,b,c", "three whole numbers"),
    ):
        with pytest.raises(ConfigError, match=said):
            match(run, scans["one"], point=point, into=[scans["same"]], out=tmp_path / "out")
    with pytest.raises(MedSSLError, match="nothing"):
        match(run, scans["one"], point="1,2,3", into=[tmp_path / "nothing.txt"], out=tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: a folder is wanted"):
        asked(run, scans, "same", out=tmp_path / "file", dry_run=True)
    assert asked(run, scans, "same", out=tmp_path / "out", dry_run=True) == ()
    assert not (tmp_path / "out").exists()
