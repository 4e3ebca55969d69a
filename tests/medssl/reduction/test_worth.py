"""Which of several copies is kept, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.formats.scan import Scan, ScanHeader
from medssl.reduction.fingerprint import fingerprint_of
from medssl.reduction.worth import keep_priority

GENERATOR = np.random.default_rng(0)
CT = np.clip(GENERATOR.normal(-100, 300, (20, 24, 24)), -1000, 1500).astype(np.int16)


def printed(name, values, mm=2.0, units="HU"):
    path = Path("scan.nii.gz")
    header = ScanHeader(
        path=path,
        paths=(path,),
        format="nifti",
        shape=values.shape,
        affine=np.diag([mm, mm, mm, 1.0]),
        dtype=str(values.dtype),
        units=units,
    )
    return fingerprint_of(Scan(header=header, values=values), id=name, size_bytes=1, mtime_ns=1, file_hash=name)


def row(name, **given):
    return {"id": name, "label_path": None, "split": "train", "units": "HU", "modality": "CT", **given}


def better(one, two, first=CT, second=CT, *, mm=(2.0, 2.0), test_first=False):
    """Return which of "a" (worse by name) and "b" is kept, and why."""
    prints = [
        printed("a", first, mm[0], one.get("units", "HU")),
        printed("b", second, mm[1], two.get("units", "HU")),
    ]
    worth = keep_priority([row("a", **one), row("b", **two)], prints, test_first=test_first)
    kept, other = ("a", "b") if worth.values["a"] >= worth.values["b"] else ("b", "a")
    return kept, worth.why(kept, other)


LUNG = np.clip((CT + 1350.0) / 1500 * 255, 0, 255).astype(np.uint8)
POOR = {"units": "arbitrary", "modality": "unknown"}


def test_the_hounsfield_scan_is_kept_and_not_its_window_in_8_bits_that_sorts_first():
    kept, why = better(POOR, {}, LUNG, CT)
    assert (kept, why) == ("b", "kept for its known units (HU, not arbitrary)")
    kept, why = better({**POOR}, {**POOR}, LUNG, CT)
    assert kept == "b"
    assert "distinct values" in why


def test_a_sign_changed_copy_in_test_does_not_replace_the_true_ct():
    changed = {"units": "arbitrary", "split": "test"}
    assert better(changed, {}, -CT, CT)[0] == "b"
    assert better(changed, {}, -CT, CT, test_first=True)[0] == "a"  # where splits are left as they are


@pytest.mark.parametrize(
    ("one", "two", "first", "second", "mm", "word"),
    [
        ({}, {"label_path": "x"}, CT, CT, (2.0, 2.0), "its labels"),
        ({"units": "arbitrary"}, {}, CT, CT, (2.0, 2.0), "its known units"),
        ({"modality": "unknown"}, {}, CT, CT, (2.0, 2.0), "its known modality"),
        ({}, {}, (CT // 64).astype(np.int16) * 64, CT, (2.0, 2.0), "more distinct values"),
        ({}, {}, np.clip(CT, -450, 150), CT, (2.0, 2.0), "its wider window"),
        ({}, {}, CT, CT, (2.0, 1.0), "its finer grid"),
        ({}, {}, CT[:14], CT, (2.0, 2.0), "more slices"),
        ({}, {}, CT[:, :16], CT, (2.0, 2.0), "showing more"),
        ({}, {}, np.where(abs(np.arange(24) - 12) < 5, CT.min(), CT), CT, (2.0, 2.0), "being less clipped or blanked"),
        ({}, {}, np.pad(CT, ((0, 0), (5, 5), (0, 0)), constant_values=-1024), CT, (2.0, 2.0), "clipped or blanked"),
    ],
)
def test_each_merit_goes_before_the_name(one, two, first, second, mm, word):
    kept, why = better(one, two, first, second, mm=mm)
    assert kept == "b", why
    assert word in why


FEW = (CT // 64).astype(np.int16) * 64  # distinct values
NARROW = np.clip(CT, -450, 150)
BLANKED = np.where(abs(np.arange(24) - 12) < 5, CT.min(), CT)


@pytest.mark.parametrize(
    ("one", "two", "first", "second", "mm", "word"),
    [
        ({}, {"label_path": "x", "units": "arbitrary"}, CT, CT, (2.0, 2.0), "its labels"),
        ({"modality": "CT", "units": "arbitrary"}, {"modality": "unknown"}, CT, CT, (2.0, 2.0), "its known units"),
        ({"modality": "unknown"}, {}, CT, FEW, (2.0, 2.0), "its known modality"),
        ({"units": "arbitrary"}, {"units": "arbitrary"}, FEW, CT, (1.0, 2.0), "more distinct values"),
        ({}, {}, NARROW, CT, (1.0, 2.0), "its wider window"),
        ({}, {}, CT, CT[:14], (2.0, 1.0), "its finer grid"),
        ({}, {}, CT[:14], CT[:, :16], (2.0, 2.0), "more slices"),
        ({}, {}, CT[:, :16], BLANKED[:, :20], (2.0, 2.0), "showing more"),
    ],
)
def test_each_merit_goes_before_the_next(one, two, first, second, mm, word):
    kept, why = better(one, two, first, second, mm=mm)
    assert kept == "b", why
    assert f"kept for {word}" in why
    assert "though it" in why  # what the other has more of


def test_what_the_kept_one_lacks_is_said():
    kept, why = better({}, {"label_path": "x"}, CT, CT[:8])
    assert kept == "b"
    assert "kept for its labels" in why
    assert "though it has fewer slices that show something (8, not 20)" in why


def test_equal_ones_are_told_by_name_and_padding_is_no_merit():
    assert better({}, {}) == ("a", "the first by name")
    padded = np.pad(CT, ((3, 3), (4, 4), (4, 4)), constant_values=int(CT.min()))
    assert printed("a", padded).statistics["held"] <= CT.size
    assert printed("a", padded).statistics["slices"] <= len(CT)


def test_clouds_are_told_by_their_points():
    rows = [row("a", kind="cloud", points=500, length_unit="mm"), row("b", kind="cloud", points=900, length_unit="mm")]
    worth = keep_priority(rows)
    assert worth.values["b"] > worth.values["a"]
    assert worth.why("b", "a") == "kept for showing more (900 points, not 500 points)"
