"""The README's way on a CPU, as a new user goes it: each command is the one that the verb before it printed.

From a folder of DICOM series that nobody labelled, and three labelled cases, to masks of new series.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from medssl.formats.dicom_write import write_series
from medssl.formats.nifti import write_nifti
from medssl.phantoms.anatomy import phantom
from pipelines.cli import app

SHAPE, SPACING = (24, 40, 40), (8.0, 9.0, 9.0)
STEPS = {
    "pretrain": "train.steps=120",
    "finetune": "train.steps=120",
}  # a tenth of the presets': minutes become seconds


class Walk:
    """Runs what is printed, as it is printed, and keeps what was said."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.went: list[str] = []

    def run(self, command: str) -> str:
        """Run a command, and return what it proposes next ("" where it proposes nothing)."""
        words = shlex.split(command)
        assert words[0] == "medssl", command
        verb = words[1]
        told = CliRunner().invoke(app, [*words[1:], *([STEPS[verb]] if verb in STEPS else [])])
        assert told.exit_code == 0, f"{command}\n{told.output}"
        self.went.append(verb)
        self.said[verb] = told.output
        found = [line.removeprefix("next: ") for line in told.stdout.splitlines() if line.startswith("next: ")]
        assert len(found) <= 1
        return found[0] if found else ""

    def until(self, command: str, verb: str) -> str:
        """Follow the proposals up to the one that begins ``verb``; return it."""
        for _ in range(8):
            if shlex.split(command)[1] == verb:
                return command
            command = self.run(command)
            assert command, self.went
        raise AssertionError(self.went)


def series(folder: Path, number: int) -> np.ndarray:
    made = phantom(number, shape=SHAPE, spacing_mm=SPACING)
    files = write_series(folder / f"series{number}", made.values, made.affine, patient_id=f"p{number}", name="s")
    return np.array([str(file) for file in files])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_series_without_labels_to_masks_of_new_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medssl.workflows.cache._has_gpu", lambda: False)
    for number in range(8):
        series(tmp_path / "archive", number)
    for number in (20, 21, 22):
        made = phantom(number, shape=SHAPE, spacing_mm=SPACING)
        write_nifti(tmp_path / f"labelled/case{number}.nii.gz", made.values, made.affine)
        write_nifti(tmp_path / f"labelled/case{number}_seg.nii.gz", made.labels, made.affine)
    new = {number: series(tmp_path / "new series", number) for number in (30, 31)}

    walk = Walk()
    pretrain = walk.until("medssl index archive --out ct.parquet", "pretrain")
    assert walk.went == ["index", "check", "reduce", "cache"]
    assert shlex.split(pretrain)[2].endswith("_small")  # made for this machine
    assert walk.run(pretrain) == ""
    assert re.search(r"^time: 120 steps, about .* on this processor", walk.said["pretrain"], re.MULTILINE)
    (later,) = re.findall(r"once a STORE of labelled scans is there \(.*\): (medssl finetune .*)$",
                          walk.said["pretrain"], re.MULTILINE)  # fmt: skip

    labelled = walk.until("medssl index labelled --out labelled.parquet", "pretrain")
    store = shlex.split(labelled)[shlex.split(labelled).index("--data") + 1]
    evaluate = walk.run(later.replace("STORE", store))
    assert "smaller: " not in walk.said["finetune"]  # the command before was sized for this machine already
    (predict,) = re.findall(r"^on new data: (medssl predict .*)$", walk.said["finetune"], re.MULTILINE)
    walk.run(evaluate)
    walk.run(predict.replace("SCANS", shlex.quote("new series")))
    assert "2 scans done, 0 failed, 0 skipped" in walk.said["predict"]
    masks = sorted(Path(shlex.split(predict)[-1]).glob("*.dcm"))
    assert len(masks) == 2
    for mask in masks:
        seg = hd.seg.segread(mask)
        (number,) = [n for n, files in new.items() if pydicom.dcmread(files[0]).PatientID == seg.PatientID]
        uids = [pydicom.dcmread(file).SOPInstanceUID for file in new[number]]
        found = seg.get_pixels_by_source_instance(
            uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
        assert found.shape == SHAPE
        assert found.any()
