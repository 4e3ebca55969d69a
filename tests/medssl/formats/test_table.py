"""The table of formats: names, and what is done with a name that no row has."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medssl import formats
from medssl.errors import FormatError
from medssl.formats import reading, table
from medssl.formats.dicom_write import write_series

VALUES = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


@pytest.mark.parametrize(
    ("name", "format_", "is_scan"),
    [
        ("a.nii", "nifti", True),
        ("über scan.NII.GZ", "nifti", True),
        ("a.b.nrrd", "itk", True),
        ("a.mhd", "itk", True),
        ("a.npz", "npz", True),
        ("a.dcm", "dicom", False),
        ("a.IMA", "dicom", False),
        ("a.txt", None, False),
        ("nii", None, False),
        ("._a.nii.gz", None, False),
        ("a.gz", None, False),
    ],
)
def test_names(name: str, format_: str | None, is_scan: bool) -> None:
    assert formats.format_of(Path("/some/folder") / name) == format_
    assert formats.is_scan_name(Path(name)) is is_scan
    assert formats.is_dicom_name(Path(name)) is (format_ == "dicom")


def test_every_row_has_its_reader() -> None:
    for row in table.FORMATS.values():
        module = reading._reader(Path("scan" + row.suffixes[0]))
        assert callable(module.read)
        assert callable(module.read_header)


def test_an_unknown_suffix_lists_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"'\.docx'.*\.nii\.gz.*\.nrrd"):
        formats.read(tmp_path / "a.docx")


def test_the_paths_of_a_header_pick_one_series_of_a_folder(tmp_path: Path) -> None:
    ones = write_series(tmp_path, VALUES, np.eye(4), name="one")
    write_series(tmp_path, VALUES + 100, np.eye(4), name="two")
    with pytest.raises(FormatError, match="2 series here"):
        formats.read(tmp_path)
    np.testing.assert_array_equal(formats.read(tmp_path, paths=ones).values, VALUES)
    np.testing.assert_array_equal(formats.read(tmp_path, paths=ones[::-1]).values, VALUES)


def test_listing_formats_imports_no_heavy_library() -> None:
    code = (
        "import sys; from pathlib import Path; import medssl.formats as f; f.is_scan_name(Path('a.nii')); "
        "print([m for m in ('SimpleITK', 'pydicom', 'nibabel', 'torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
