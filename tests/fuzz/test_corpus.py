"""Files that once crashed, hung or misled a reader, through `index`: each is named and counted, and the rest goes on.

What the fuzzer finds is put into ``corpus/`` as it is; what is better understood is made here.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.errors import FormatError
from medssl.formats import reading as scans
from medssl.manifest.schema import read_manifest
from pipelines.cli import app
from pointcloud.formats import reading as clouds
from pointcloud.formats.table import FORMATS
from tests.fuzz.mutations import mutant
from tests.fuzz.seeds import SEEDS, seed_of

CORPUS = Path(__file__).parent / "corpus"


def mha(line: bytes, instead: bytes) -> bytes:
    sound = seed_of("mha").content
    assert line in sound
    return sound.replace(line, instead)


def dicom(keyword: str, value: int) -> bytes:
    """Return a slice in which one number of 16 bits is another."""
    tag = {"BitsAllocated": (0x28, 0x100), "BitsStored": (0x28, 0x101)}[keyword]
    raw = bytearray(seed_of("dicom").content)
    place = raw.index(struct.pack("<HH2sH", *tag, b"US", 2)) + 8
    raw[place : place + 2] = struct.pack("<H", value)
    return bytes(raw)


def pcd_of_two_pads() -> bytes:
    points = np.zeros(30, dtype="<f4").tobytes()
    packed = b"".join(bytes([len(run) - 1]) + run for run in (points[at : at + 32] for at in range(0, 120, 32)))
    head = b"VERSION 0.7\nFIELDS x y z _ _\nSIZE 4 4 4 1 1\nTYPE F F F U U\nCOUNT 1 1 1 4 4\nWIDTH 6\nHEIGHT 1\n"
    head += b"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 6\nDATA binary_compressed\n"
    return head + struct.pack("<II", len(packed), 120) + packed


def laz(seed: int) -> bytes:
    """Return a LAZ file with two other bytes among its packed points."""
    chance = np.random.default_rng(seed)
    raw = bytearray(seed_of("laz").content)
    for place in chance.integers(int.from_bytes(raw[96:100], "little") + 8, len(raw), 2):
        raw[place] = int(chance.integers(256))
    return bytes(raw)


# File -> its bytes, and what its row says; None where it may be read or refused, as long as medssl goes on.
HOSTILE = {
    "axes.mha": (lambda: mha(b"NDims = 3", b"NDims = -1"), "NDims"),
    "endless.mha": (lambda: mha(b"TransformMatrix = 1", b"TransformMatrix = 1e308"), "TransformMatrix"),
    "stored/a.dcm": (lambda: dicom("BitsStored", 16 ^ 0x4000), "."),
    "allocated/a.dcm": (lambda: dicom("BitsAllocated", 16 ^ 8), "."),
    "eleven/a.dcm": (lambda: dicom("BitsAllocated", 17), "."),
    "nested.npy": (lambda: b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 9000 + b" " * 999 + b"\n", None),
    "pads.pcd": (pcd_of_two_pads, None),
    **{f"damaged{seed}.laz": (lambda seed=seed: laz(seed), None) for seed in range(12)},
}
PIPE, LONG, NAME = "pipe.nii.gz", "too_long", b"caf\xe9.nii.gz"


def deep(folder: Path, target: int = 4200) -> None:
    """Make a path that is longer than the system takes, with a scan at its end."""
    name = "d" * 200
    here = os.open(folder, os.O_RDONLY)
    for _ in range(target // 200 + 1):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open("scan.nii.gz", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(file, seed_of("nifti-gz").content)
    os.close(file)
    os.close(here)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    home = tmp_path_factory.mktemp("corpus")
    folder = home / "scans"
    for name, (content, _) in HOSTILE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content())
    for name in ("nifti-gz", "mha", "nrrd", "ply", "las"):
        (folder / f"good-{name}{seed_of(name).suffix}").write_bytes(seed_of(name).content)
    os.mkfifo(folder / PIPE)
    (folder / LONG).mkdir()
    deep(folder / LONG)
    Path(os.fsdecode(os.fsencode(folder) + b"/" + NAME)).write_bytes(seed_of("nifti-gz").content)
    outcome = CliRunner().invoke(app, ["index", str(folder), "--out", str(home / "m.parquet"), "file_seconds=120"])
    rows = {os.path.relpath(row["path"], folder): row for row in read_manifest(home / "m.parquet").rows()}
    return outcome, rows


def test_index_ends_well_and_the_good_ones_are_rows(indexed):
    outcome, rows = indexed
    assert outcome.exit_code == 0, outcome.output
    assert "Traceback" not in outcome.output
    good = {name for name, row in rows.items() if row["error"] is None}
    assert {"good-nifti-gz.nii.gz", "good-mha.mha", "good-nrrd.nrrd", "good-ply.ply", "good-las.las"} <= good


@pytest.mark.parametrize("name", [name for name, (_, said) in HOSTILE.items() if said])
def test_a_hostile_file_is_a_row_with_the_reason(indexed, name):
    _, rows = indexed
    # A DICOM series is a row of its folder, a file that is none is one of its own.
    row = rows.get(name) or rows[str(Path(name).parent)]
    assert row["error"]
    assert re.search(HOSTILE[name][1], row["error"]), row["error"]


def test_a_path_that_is_too_long_is_named_with_what_to_do(indexed):
    _, rows = indexed
    (error,) = [row["error"] for name, row in rows.items() if name.startswith(LONG)]
    assert "Shorten the names of the folders above it" in error


def test_what_is_no_file_is_counted(indexed):
    outcome, _ = indexed
    said = " ".join(outcome.output.split())
    assert "1 pipes" in said
    assert "1 names that are not UTF-8" in said


@pytest.mark.parametrize("name", [name for name, (_, said) in HOSTILE.items() if said is None])
def test_what_once_aborted_is_read_or_refused(indexed, name):
    _, rows = indexed
    assert name in rows or name == "nested.npy"


def assert_refused_or_read(path: Path, *, cloud: bool = False) -> None:
    refusal: FormatError | None = None
    try:
        clouds.read(path, samples=0) if cloud or ((row := FORMATS.row_of(path)) and row.sure) else scans.read(path)
    except FormatError as error:
        refusal = error
    assert refusal is None or path.name in str(refusal)


@pytest.mark.parametrize("path", [path for path in sorted(CORPUS.iterdir()) if path.suffix], ids=lambda path: path.name)
def test_what_the_fuzzer_found_is_refused_or_read(path):
    """Read in this process: a death would be one of the tests."""
    assert_refused_or_read(path)


@pytest.mark.parametrize("name", [name for name in SEEDS if not name.startswith(("dicom", "nrrd-p", "mha-p"))])
def test_readers_raise_nothing_but_format_errors(name, tmp_path):
    """A dozen mutants of every format; `make fuzz` reads as many as one likes."""
    sound = seed_of(name)
    path = tmp_path / f"mutant{sound.suffix}"
    for number in range(12):
        path.write_bytes(mutant(name, sound, 0, number)[0])
        assert_refused_or_read(path, cloud=sound.cloud)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    for name, read in (("x.nii.gz", scans.read), ("x.mha", scans.read), ("x.ply", clouds.read), ("x.png", scans.read)):
        os.mkfifo(tmp_path / name)
        with pytest.raises(FormatError, match="pipe"):
            read(tmp_path / name)


def test_the_same_number_gives_the_same_mutant():
    for name in ("nifti-gz", "ply-ascii"):
        assert mutant(name, seed_of(name), 3, 5) == mutant(name, seed_of(name), 3, 5)
        assert len({mutant(name, seed_of(name), 3, number)[0] for number in range(20)}) > 15


def test_a_tiff_that_does_not_say_whether_0_is_black_is_refused():
    with pytest.raises(FormatError, match="black or white"):
        scans.read(CORPUS / "no-photometric.tif")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [(112, 1e-40, "other programs may take that for no scale"), (280, 1.5078, "voxel sizes disagree")],
)
def test_what_other_programs_read_otherwise_is_said(tmp_path, place, value, said):
    raw = bytearray(seed_of("nifti").content)
    struct.pack_into("<f", raw, place, value)
    (tmp_path / "a.nii").write_bytes(raw)
    assert said in "".join(scans.read_header(tmp_path / "a.nii").warnings)


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [
        ("bmp", 2831, "would begin at byte 0"),
        ("dicom", 1214, "22,367 bytes are announced and 2,052 are there"),
        ("tiff", 193, "black or white"),
        ("tiff", 2213, "black or white"),
        ("nifti-float", 1542, "no voxel size"),
    ],
)
def test_what_a_second_reader_once_read_otherwise_is_refused_or_said(tmp_path, name, number, said):
    sound = seed_of(name)
    path = tmp_path / f"mutant{sound.suffix}"
    path.write_bytes(mutant(name, sound, 7, number)[0])
    try:
        found = " ".join(scans.read(path).header.warnings)
    except FormatError as error:
        found = error.reason
    assert said in found


def test_a_bmp_whose_pixels_name_colours_that_its_palette_lacks_is_refused(tmp_path):
    raw = bytearray(seed_of("bmp").content)
    scans.read(_written(tmp_path / "whole.bmp", raw))
    struct.pack_into("<I", raw, 46, 128)
    with pytest.raises(FormatError, match="its palette has 128"):
        scans.read(_written(tmp_path / "half.bmp", raw))


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["xyz", "obj", "ply-ascii", "pcd-ascii"])
def test_text_that_stops_in_a_line_is_said_to(tmp_path, name):
    sound = seed_of(name)
    path = tmp_path / f"a{sound.suffix}"
    path.write_bytes(sound.content)
    assert "has no end" not in "".join(clouds.read(path, samples=0).warnings)
    path.write_bytes(sound.content[:-2])
    assert "has no end" in "".join(clouds.read(path, samples=0).warnings)
