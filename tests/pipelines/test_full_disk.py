"""A disk that is full or refuses: one line, an exit code that is neither 0 nor 1, and the same command goes on."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli import app

TINY = [
    "encoder.channels=[4,8]",
    "encoder.strides=[1,2]",
    "encoder.blocks=[1,1]",
    "encoder.kernels=[3,3]",
    "method.crop=[16,16,16]",
    "train.batch_size=4",
    "train.accelerator=cpu",
]


def run(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output + (result.stderr if result.stderr_bytes else "")


def scans(folder: Path, count: int = 4) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        values = rng.normal(200, 80, (24, 24, 24)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([1.5, 1.5, 1.5, 1.0])), folder / f"case_{number:03}.nii.gz")
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """Give a function that leaves so many KiB free on a file system of its own; skipped without the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.name != "posix"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")

    def leave(kib: int | None) -> Path:
        (place / "filler").unlink(missing_ok=True)
        if kib is not None:
            free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
            (place / "filler").write_bytes(b"\0" * (free - kib * 1024))
        return place

    yield leave
    subprocess.run(["umount", "-l", place], check=True)


def full(answer: tuple[int, str]) -> None:
    code, said = answer
    assert code == 3, said
    assert "the disk is full" in said
    assert "Traceback" not in said
    assert "is whole" in said


def test_index_on_a_full_disk_says_so_and_goes_on_after(small_disk, tmp_path):
    source = scans(tmp_path / "scans")
    command = ("index", source, "--out", small_disk(4) / "m.parquet", "modality=MR")
    full(run(*command))
    assert not (small_disk(4) / "m.parquet").exists()
    small_disk(None)
    assert run(*command)[0] == 0


def test_an_index_that_cannot_be_written_anew_leaves_the_old_one(small_disk, tmp_path):
    source = scans(tmp_path / "scans")
    out = small_disk(None) / "m.parquet"
    assert run("index", source, "--out", out, "modality=MR")[0] == 0
    before = out.read_bytes()
    small_disk(2)
    full(run("index", source, "--out", out, "modality=MR", "seed=3", "fresh=true"))
    assert out.read_bytes() == before


def test_cache_on_a_full_disk_drops_no_scan_in_silence(small_disk, tmp_path):
    source = scans(tmp_path / "scans", 8)
    manifest = tmp_path / "m.parquet"
    assert run("index", source, "--out", manifest, "modality=MR")[0] == 0
    command = ("cache", manifest, "--out", small_disk(96) / "store", "workers=1")
    full(run(*command))
    small_disk(None)
    code, said = run(*command)
    assert code == 0, said
    assert "8 scans in the store" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reduce_on_a_full_disk(small_disk, tmp_path, workers):
    source = scans(tmp_path / "scans")
    manifest = tmp_path / "m.parquet"
    assert run("index", source, "--out", manifest, "modality=MR")[0] == 0
    command = ("reduce", manifest, "--out", small_disk(16) / "kept.parquet", f"workers={workers}", "planted=0")
    full(run(*command))
    small_disk(None)
    assert run(*command)[0] == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_training_and_what_follows_on_a_full_disk(small_disk, tmp_path):
    source = scans(tmp_path / "scans", 6)
    labels = tmp_path / "scans"
    for path in sorted(labels.glob("case_*.nii.gz")):
        values = np.zeros((24, 24, 24), np.uint8)
        values[8:16, 8:16, 8:16] = 1
        nib.save(nib.Nifti1Image(values, np.diag([1.5, 1.5, 1.5, 1.0])), labels / path.name.replace(".nii", "_seg.nii"))
    manifest, store = tmp_path / "m.parquet", tmp_path / "store"
    assert run("index", source, "--out", manifest, "modality=MR", "test=0.34")[0] == 0
    assert run("cache", manifest, "--out", store)[0] == 0
    pretrain = ["pretrain", "simclr_small", "--data", store, "train.steps=4", "train.warmup=0", "train.log_every=1",
                "train.checkpoint_every=2", "train.probe_every=100", *TINY]  # fmt: skip
    full(run(*pretrain, "--out", small_disk(64) / "pre"))
    small_disk(None)
    code, said = run(*pretrain, "--out", small_disk(None) / "pre", "--resume")
    assert code == 0, said
    pre = tmp_path / "pre"
    assert run(*pretrain, "--out", pre)[0] == 0
    finetune = ["finetune", pre, "--data", store, "train.steps=4", "train.warmup=0", "train.batch_size=2",
                "train.accelerator=cpu"]  # fmt: skip
    full(run(*finetune, "--out", small_disk(64) / "seg"))
    seg = tmp_path / "seg"
    assert run(*finetune, "--out", seg)[0] == 0
    for verb in (
        ("evaluate", seg, "--data", store, "--out", small_disk(4) / "scores"),
        ("embed", pre, "--data", store, "--out", small_disk(4) / "vectors.parquet"),
        ("report", pre, seg, "--out", small_disk(4) / "report.html"),
        ("export", seg, "--to", "onnx", "--out", small_disk(64) / "onnx"),
        ("export", seg, "--to", "monai", "--out", small_disk(64) / "bundle"),
        ("check", manifest, "--out", small_disk(4) / "check.html"),
        ("copy", "voco", small_disk(0) / "voco.yaml"),
    ):
        full(run(*verb))
    predict = ("predict", seg, source, "device=cpu", "workers=1", "--out")
    for kib in (0, 4, 16):
        full(run(*predict, small_disk(kib) / "predicted"))
    code, said = run(*predict, small_disk(None) / "predicted")
    assert code == 0, said
    assert "6 scans done" in said


def test_a_limit_on_the_size_of_files_is_named(tmp_path):
    source = scans(tmp_path / "scans", 8)
    manifest = tmp_path / "m.parquet"
    assert run("index", source, "--out", manifest, "modality=MR")[0] == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        code, said = run("cache", manifest, "--out", tmp_path / "store", "workers=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 3, said
    assert "larger than this system or this user's limits allow" in said


def test_a_file_system_that_can_only_be_read(small_disk, tmp_path):
    source = scans(tmp_path / "scans")
    place = small_disk(None)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    code, said = run("index", source, "--out", place / "m.parquet", "modality=MR")
    assert code == 3, said
    assert "can only be read" in said


def test_an_error_that_no_verb_knows_is_one_line_and_no_finding(monkeypatch, tmp_path):
    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("medssl.manifest.build.build_manifest", broken)
    code, said = run("index", scans(tmp_path / "scans"), "--out", tmp_path / "m.parquet")
    assert code == 3
    assert "Traceback" not in said
    assert "KeyError" in said
    assert "surprise" in said
