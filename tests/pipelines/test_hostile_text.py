"""What files say reaches terminal, log, page and spreadsheet without what these would obey."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medssl
from medssl.engine.run import Run
from medssl.manifest.schema import read_manifest, write_manifest
from medssl.quoting import visible
from medssl.spreadsheet import csv_text, read_cell, rows_of_csv, safe_cell

ESCAPE, TURNED, C1 = "\x1b[2J\x1b]0;owned\x07", "\u202egpj", "\x9b31m"
HOSTILE = f"<script>x</script>{ESCAPE}{TURNED}{C1}\nerror: all is well"
BAD = ("\x1b", "\x07", "\u202e", "\x9b", "\x85", "\u2066", "\r")


def hostile_folder(folder: Path) -> Path:
    """Return a data set whose file names and classes hold what terminals and browsers obey."""
    rng = np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(4):
        name = f"case{number}{ESCAPE}{TURNED}\n<b>{C1}.nii.gz".replace("/", "")
        values = rng.normal(0, 50, (10, 12, 11)).astype(np.float32)
        label = np.zeros(values.shape, np.uint8)
        label[2:5, 3:6, 3:6] = 1
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "imagesTr" / name)
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labelsTr" / name)
    (folder / "imagesTr" / f"broken{ESCAPE}\n{TURNED}.nii.gz").write_bytes(b"\x1f\x8b" + bytes(60))
    about = {"labels": {"0": "background", "1": HOSTILE}, "modality": {"0": "MRI"}, "training": []}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def test_index_check_cache_and_report_of_hostile_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "found.parquet"
    medssl.index(hostile_folder(tmp_path / "d"), out=found, overrides=["workers=1"])
    assert read_manifest(found).classes[1] == HOSTILE  # what it is called stays what it is
    medssl.check(found, overrides=["privacy=paths"])
    medssl.cache(found, out=tmp_path / "store", overrides=["workers=1"])
    medssl.report(tmp_path / "store", found, out=tmp_path / "report.html")
    said = "".join(capsys.readouterr())
    assert "broken" in said
    for sign in BAD:
        assert sign not in said, repr(sign)
    assert not any(line.startswith(("error:", "<b>")) for line in said.splitlines())
    for page in (tmp_path / "found-check.html", tmp_path / "report.html"):
        text = page.read_text(encoding="utf-8")
        for sign in (*BAD, "<script>x", "<b>?"):
            assert sign not in text, (page.name, repr(sign))


def test_no_template_trusts_what_files_say() -> None:
    root = Path(medssl.__file__).parents[1]
    sources = [*root.glob("medssl/**/*.py"), *root.glob("pipelines/**/*.py"), *root.glob("medssl/**/*.j2")]
    trusted = {(path.name, line.strip()) for path in sources for line in path.read_text("utf-8").splitlines()
               if "|safe" in line.replace(" ", "") or "Markup(" in line}  # fmt: skip
    # Charts alone, whose texts are escaped where they are drawn.
    assert {name for name, _ in trusted} <= {"page.py", "page.html.j2"}
    assert all("svg|safe" in line for _, line in trusted)


def test_a_log_line_is_one_line(tmp_path: Path) -> None:
    Run(tmp_path).log(f"class {HOSTILE}")
    (line,) = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert line.endswith("class <script>x</script>?gpj error: all is well")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\tb\r\nc\u2028d", "a b c?d"), ("\x1bc\x1b(0x", "x"), ("\u200bk\ufeff", "?k?"), ("Größe 肝 5", "Größe 肝 5"),
     ("\ud800", "?"), ("\x9b2Kx", "x"), ("a\x1b", "a?"), ("\x1b]8;;http://x\x1b\\y", "y")],
)  # fmt: skip
def test_hidden_signs_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


CELLS = ["=1+1", "+x", "-tumour", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@", "-3.5", "+4", "-1e-3", "-inf", "nan", "",
         "plain", "'tis", "＝1", "a,b\n=2", '"=1"']  # fmt: skip


def test_no_cell_is_computed_and_all_are_read_back() -> None:
    text = csv_text(["=head", "b"], [[cell, -2] for cell in CELLS])
    shown = list(csv.reader(io.StringIO(text, newline="")))[1:]
    for cell, number in shown:
        assert number == "-2"
        assert not cell.startswith(tuple("=@\t\r＝"))
        if cell.startswith(("+", "-")):
            float(cell)  # a number, and no formula
    assert [row["=head"] for row in rows_of_csv(io.StringIO(text, newline=""))] == CELLS
    assert [read_cell(safe_cell(cell)) for cell in CELLS] == CELLS


def test_a_manifest_as_csv_keeps_every_text(tmp_path: Path) -> None:
    from medssl.manifest.schema import manifest_of_rows

    rows = [{"id": name, "path": f"/d/{name}", "patient": "-7", "min": -3.5, "targets": '{"a": "=2"}'} for name in
            ("=cmd|' /C calc'!A0", "@x", "-y", "'=z", "w")]  # fmt: skip
    before = manifest_of_rows(rows)
    write_manifest(before, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").frame.equals(before.frame)
    for line in list(csv.reader((tmp_path / "m.csv").read_text().splitlines()[1:])):
        assert not any(cell.startswith(("=", "@", "+", "\t")) for cell in line)


def test_every_csv_is_written_by_the_one_writer() -> None:
    root = Path(medssl.__file__).parents[1]
    for folder in ("medssl", "pipelines", "pointcloud"):
        for path in (root / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.name not in ("spreadsheet.py", "schema.py"):
                assert "csv.writer" not in text, path
                assert "write_csv" not in text, path
