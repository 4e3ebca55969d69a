"""Findings: each kind of trouble has its own, with its severity; a good cohort has none."""

from html.parser import HTMLParser

import numpy as np
import pytest

from medssl.manifest.check import Finding, check_manifest
from medssl.manifest.page import check_page
from medssl.manifest.schema import manifest_of_rows


def good(name: str, **more):
    return {
        "id": name, "path": f"/x/{name}.nii.gz", "modality": "CT", "units": "HU", "format": "nifti", "patient": name,
        "shape": [20, 30, 30], "spacing_mm": [2.0, 1.0, 1.0], "affine": np.diag([1.0, 1.0, 2.0, 1.0]).ravel().tolist(),
        "frames": 1, "p005": -1000.0, "p50": 0.0, "p995": 900.0, "min": -1024.0, "max": 1000.0, "nonfinite": 0,
        "content_hash": name, "file_hash": name, "split": "train", "flags": [], **more,
    }  # fmt: skip


def found(*rows, classes=None, notes=()) -> list[tuple[str, str, str]]:
    whole = [good("v", split="val"), good("t", split="test"), *rows]
    result = check_manifest(manifest_of_rows(whole, classes=classes, notes=notes), look_at_files=False)
    return [(f.severity, f.kind, f.scan) for f in result.findings]


def test_a_good_cohort_has_no_findings():
    assert found(good("a")) == []


def sheared():
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 0.5
    return affine.ravel().tolist()


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"error": "The file is text."}, ("error", "unreadable")),
        ({"error": "A localiser.", "flags": ["set-aside"]}, ("info", "set-aside")),
        ({"flags": ["nonfinite"], "nonfinite": 3}, ("error", "nonfinite")),
        ({"flags": ["constant"], "min": 7.0, "max": 7.0, "p005": 7.0, "p995": 7.0}, ("error", "constant")),
        ({"p005": 0.0, "p995": 0.0}, ("warning", "nearly-constant")),
        ({"shape": [2, 30, 30]}, ("error", "few-slices")),
        ({"shape": [4, 30, 30]}, ("warning", "few-slices")),
        ({"frames": 30}, ("info", "four-dimensional")),
        ({"spacing_mm": [0.0, 1.0, 1.0]}, ("error", "bad-geometry")),
        ({"affine": [float("nan")] * 16}, ("error", "bad-geometry")),
        ({"spacing_mm": [25.0, 25.0, 25.0]}, ("warning", "odd-spacing")),
        ({"max": 1e38}, ("warning", "odd-values")),
        ({"min": -1e9}, ("warning", "odd-values")),
        ({"spacing_mm": [0.001, 0.001, 0.001]}, ("warning", "odd-spacing")),
        ({"spacing_mm": [12.0, 1.0, 1.0]}, ("info", "anisotropic")),
        ({"affine": sheared()}, ("warning", "non-orthogonal")),
        ({"notes": ["missing slices: about 2 in 1 gaps"]}, ("error", "missing-slices")),
        ({"notes": ["uneven slices: distances from 1 to 2 mm"]}, ("warning", "uneven-slices")),
        ({"notes": ["no orientation: neither sform nor qform"]}, ("warning", "no-orientation")),
        ({"notes": ["something new: a later reader says it"]}, ("info", "something-new")),
        ({"flags": ["label-shape-differs"], "notes": ["label shape (1, 1, 1)"]}, ("error", "label-shape-differs")),
        ({"flags": ["label-affine-differs"]}, ("error", "label-affine-differs")),
        ({"flags": ["label-empty"]}, ("warning", "label-empty")),
        ({"flags": ["label-non-integer"]}, ("error", "label-non-integer")),
        ({"flags": ["label-unreadable"], "label_path": "/l"}, ("error", "label-unreadable")),
        ({"flags": ["looks-like-labels"]}, ("warning", "looks-like-labels")),
        ({"flags": ["several-labels"], "label_path": "/l"}, ("warning", "several-labels")),
        ({"flags": ["modality-inferred"]}, ("info", "modality-inferred")),
        ({"flags": ["ct-offset"]}, ("warning", "ct-offset")),
        ({"label_values": [-1, 0, 1]}, ("error", "label-negative")),
        ({"content_hash": None}, ("info", "voxels-not-read")),
    ],
)
def test_one_trouble_gives_one_finding_of_its_kind(change, finding):
    assert found(good("a", **change)) == [(*finding, "a")]


def test_copies_are_told_and_are_a_leak_between_splits():
    copy = good("b", content_hash="a")
    assert found(good("a"), copy) == [("warning", "copy-of-another-patient", "b"), ("warning", "duplicate", "b")]
    assert found(good("a"), good("b", content_hash="a", patient="a")) == [("warning", "duplicate", "b")]
    leaking = found(good("a"), good("b", content_hash="a", patient="a", split="test"))
    # The patient leaks, and so do the voxels.
    assert [f for f in leaking if f[0] == "error"] == [("error", "leak", "a")] * 2


def test_a_patient_in_two_splits_is_a_leak():
    leaks = found(good("a", patient="p"), good("b", patient="p", split="val"))
    assert leaks == [("error", "leak", "a")]


def test_classes_that_are_unnamed_or_never_occur():
    named = {0: "background", 1: "one", 5: "five"}
    kinds = found(good("a", label_values=[0, 1, 2]), classes=named)
    assert kinds == [("warning", "class-never-occurs", ""), ("warning", "class-unnamed", "a")]


def test_the_whole_is_looked_at():
    def kinds(rows):
        result = check_manifest(manifest_of_rows(rows), look_at_files=False)
        return {(f.severity, f.kind) for f in result.findings}

    assert ("warning", "one-patient") in kinds([good(f"s{n}", patient="p") for n in range(5)])
    assert ("info", "empty-split") in kinds([good("a")])
    assert ("error", "nothing-readable") in kinds([good("a", error="It is gone.")])
    assert ("info", "mixed-modalities") in kinds([good("a"), good("b", modality="MR")])
    assert found(good("a"), notes=["dataset.json names 2 files"]) == [("info", "dataset-note", "")]


def test_files_that_went_or_changed_are_told(tmp_path):
    file = tmp_path / "a.nii.gz"
    file.write_bytes(b"123")
    stat = file.stat()
    here = good("a", path=str(file), size_bytes=3, mtime_ns=stat.st_mtime_ns)
    manifest = manifest_of_rows([here, good("v", split="val", path=str(file)), good("t", split="test", path=str(file))])
    assert check_manifest(manifest).ok
    assert not [f for f in check_manifest(manifest).findings if f.kind in {"gone", "changed"}]
    file.write_bytes(b"1234")
    assert [(f.kind, f.scan) for f in check_manifest(manifest).findings] == [("changed", "a")]
    file.unlink()
    assert [f.kind for f in check_manifest(manifest).findings] == ["gone"] * 3


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.tags, self.sources, self.open = "", [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "br", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_offline_and_escapes_what_it_shows():
    evil = good("<script>alert(1)</script>", flags=["constant"])
    manifest = manifest_of_rows([evil, good("b", label_values=[0, 3])], root="/x/<b>")
    result = check_manifest(manifest, look_at_files=False)
    html = check_page(manifest, result, name="m.parquet", pictures=0)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert page.sources == []
    assert page.tags.count("svg") >= 5
    for finding in result.findings:
        assert isinstance(finding, Finding)
        assert finding.what in page.text


def test_the_page_shows_pictures_of_scans(tmp_path):
    from medssl.formats.nifti import write_nifti
    from medssl.manifest.build import build_manifest

    values = np.random.default_rng(0).integers(0, 100, (6, 40, 30)).astype(np.int16)
    write_nifti(tmp_path / "a.nii.gz", values, np.diag([1.0, 1.0, 3.0, 1.0]))
    manifest, _ = build_manifest(tmp_path, workers=1)
    page = Page()
    page.feed(check_page(manifest, check_manifest(manifest), name="m", pictures=3))
    assert len(page.sources) == 1
    assert page.sources[0].startswith("data:image/png;base64,")
    (tmp_path / "a.nii.gz").unlink()
    assert "<img" not in check_page(manifest, check_manifest(manifest), name="m", pictures=3)
