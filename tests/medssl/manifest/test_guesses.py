"""A guess is called a guess, and what is known is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medssl.manifest.assemble import assemble
from medssl.manifest.sources import Source


def flags_of(name: str, *seen: str, given: str = "", fields: str = "{}") -> tuple[str, list[str]]:
    source = Source(path=Path("/data") / name, relative=name)
    facts = {"flags": list(seen), "fields": fields, "format": "nifti", "error": None, "kind": "volume", "path": name}
    (row,) = assemble([(source, facts)], modality=given, pattern=re.compile("^(nobody)$"))
    return row["modality"], row["flags"]


@pytest.mark.parametrize(("name", "seen", "modality"), [("a.nii", ["looks-like-ct"], "CT"), ("MRI/a.nii", [], "MR")])
def test_a_modality_told_by_voxels_or_names_is_marked_as_a_guess(name, seen, modality):
    found, flags = flags_of(name, *seen)
    assert found == modality
    assert "modality-inferred" in flags
    assert "modality-unknown" not in flags


def test_a_modality_that_is_said_is_no_guess_and_one_that_nothing_tells_is_unknown():
    found, flags = flags_of("a.nii", "looks-like-ct", given="MR")
    assert (found, "modality-inferred" in flags) == ("MR", False)
    found, flags = flags_of("a.nii", fields='{"modality": "CT"}')
    assert (found, "modality-inferred" in flags) == ("CT", False)
    found, flags = flags_of("a.nii")
    assert (found, "modality-unknown" in flags, "modality-inferred" in flags) == ("unknown", True, False)
