"""Who lies in which split together: patients that share a scan, and the share that patients with a split make up."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import medssl
from medssl.formats.nifti import write_nifti
from medssl.manifest.assemble import give_splits
from medssl.manifest.split import split_patients


def row(patient: str, content: str | None, **more: object) -> dict[str, object]:
    return {"patient": patient, "content_hash": content, "flags": [], "split": "", "targets": None, "kind": "volume",
            "label_path": None, "error": None, **more}  # fmt: skip


def splits(rows: list[dict[str, object]], *, seed: int = 0, **known: str) -> dict[str, str]:
    give_splits(rows, val=0.25, test=0.25, seed=seed, known=known)
    return {str(r["patient"]): str(r["split"]) for r in rows}


@pytest.mark.parametrize("seed", range(3))
def test_copies_under_two_names_lie_on_one_side(seed):
    pairs = [row(f"{side}{n}", f"scan {n}") for n in range(20) for side in ("left", "right")]
    found = splits(pairs, seed=seed)
    assert all(found[f"left{n}"] == found[f"right{n}"] for n in range(20))
    assert set(found.values()) == {"train", "val", "test"}


@pytest.mark.parametrize("seed", range(3))
def test_chains_of_copies_lie_on_one_side(seed):
    """0 shares a scan with 1, 1 with 2 and so on, listed in an order that joins the ends last."""
    links = [0, 7, 3, 5, 1, 6, 2, 4]
    chain = [row(f"{patient:02}", f"scan {link}") for link in links for patient in (link, link + 1)]
    others = [row(f"other{n}", f"own {n}") for n in range(16)]
    found = splits([*chain, *others], seed=seed)
    assert len({found[f"{patient:02}"] for patient in range(9)}) == 1
    assert set(found.values()) == {"train", "val", "test"}


def test_a_copy_of_a_test_patients_scan_is_a_test_patients():
    rows = [row(f"p{n}", f"scan {n}") for n in range(12)]
    assert splits([*rows, row("again", "scan 3")], p3="test")["again"] == "test"
    stated = [row(f"p{n}", f"scan {n}", split="test" if n == 5 else "") for n in range(12)]
    assert splits([*stated, row("again", "scan 5")])["again"] == "test"


def test_scans_that_hold_nothing_or_were_not_read_join_nobody():
    empty = [row(f"p{n}", "all zero", flags=["constant"]) for n in range(20)]
    unread = [row(f"q{n}", None) for n in range(20)]
    found = splits([*empty, *unread])
    assert {found[f"p{n}"] for n in range(20)} == {found[f"q{n}"] for n in range(20)} == {"train", "val", "test"}


def test_index_keeps_copies_of_one_scan_on_one_side(tmp_path):
    draw = np.random.default_rng(0)
    for number in range(12):
        values = draw.integers(0, 500, (4, 5, 6)).astype(np.int16)
        for name in (f"case{number:02}", f"other{number:02}"):  # another name, the very same voxels
            write_nifti(tmp_path / "scans" / f"{name}.nii.gz", values, np.eye(4))
    made = medssl.index(tmp_path / "scans", out=tmp_path / "made.parquet", overrides=["test=0.3", "val=0.2"]).manifest
    rows = list(made.rows())
    assert len({r["patient"] for r in rows}) == 24
    side = {r["patient"]: r["split"] for r in rows}
    by_scan: dict[str, set[str]] = {}
    for r in rows:
        by_scan.setdefault(r["content_hash"], set()).add(side[r["patient"]])
    assert len(by_scan) == 12
    assert all(len(found) == 1 for found in by_scan.values())
    assert set(side.values()) == {"train", "val", "test"}


@given(free=st.integers(2, 40), test=st.integers(0, 12), val=st.integers(0, 12), seed=st.integers(0, 9))
def test_patients_who_have_a_split_count_towards_its_share(free, test, val, seed):
    fixed = {f"t{n}": "test" for n in range(test)} | {f"v{n}": "val" for n in range(val)}
    found = split_patients([*fixed, *(f"new{n}" for n in range(free))], val=0.2, test=0.3, seed=seed, fixed=fixed)
    number, drawn = len(found), Counter(split for patient, split in found.items() if patient.startswith("new"))
    lacking = {"test": max(0, int(0.3 * number + 0.5) - test), "val": max(0, int(0.2 * number + 0.5) - val)}
    assert drawn["test"] == min(lacking["test"], free - 1)
    assert drawn["val"] == min(lacking["val"], free - drawn["test"] - 1)


def test_a_cohort_that_grows_by_half_keeps_its_shares():
    before = split_patients(map(str, range(100)), val=0.1, test=0.2)
    after = split_patients(map(str, range(150)), val=0.1, test=0.2, fixed=before)
    assert Counter(after.values()) == {"train": 105, "test": 30, "val": 15}
