"""No path of a machine survives, whatever it stands in; ordinary text does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.reporting.privacy import Cleaner, short_name


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("encoder of /home/jane/runs/ct, 3 scans", "encoder of ct, 3 scans"),
        ("read '/data/x/y.nii.gz' twice", "read 'y.nii.gz' twice"),
        ("file C:\\Users\\Jane\\ct.yaml", "file ct.yaml"),
        ("on \\\\server\\share\\ct", "on ct"),
        ("~/stores/ct is there.", "ct is there."),
        ("Mend or remove /a/b/c.nii.", "Mend or remove c.nii."),
        ("half and half 1/2, mm/voxel, and/or", "half and half 1/2, mm/voxel, and/or"),
        ("no trace of runs/ct", "no trace of runs/ct"),
        ("2 |A and B| / (|A| + |B|) of voxels.", "2 |A and B| / (|A| + |B|) of voxels."),
    ],
)
def test_running_text(text, cleaned):
    assert Cleaner().text(text) == cleaned


def test_known_places_are_found_with_their_spaces():
    clean = Cleaner(["/data/Jane Doe/scan 1.nii", "/data/Jane Doe"])
    assert clean.text("look at /data/Jane Doe/scan 1.nii in /data/Jane Doe") == "look at scan 1.nii in Jane Doe"


@pytest.mark.parametrize(
    ("word", "cleaned"),
    [
        ("data.store=/home/Jane Doe/ct", "data.store=ct"),
        ("--out=/data/a b/r", "--out=r"),
        ("/home/Jane Doe/medssl", "medssl"),
        ("../jane/ct", "ct"),
        ("runs/ct", "runs/ct"),
        ("train.steps=50", "train.steps=50"),
        ("1/4", "1/4"),
    ],
)
def test_words_of_a_command(word, cleaned):
    assert Cleaner().word(word) == cleaned


def test_settings_are_cleaned_however_deep():
    value = {"a": ["/x/y/one", {"b": "/x/two"}], "c": 3, "d": None, "e": ("C:\\three",)}
    assert Cleaner().value(value) == {"a": ["one", {"b": "two"}], "c": 3, "d": None, "e": ["three"]}


@given(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), min_size=2, max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_path_of_any_depth_leaves_its_last_part(parts):
    path = "/" + "/".join(parts)
    assert Cleaner().text(f"see {path}, please") == f"see {parts[-1]}, please"
    assert short_name(path) == parts[-1]
