"""Objects show themselves in a terminal and in a notebook, whatever the files are called."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from medssl.command import Command
from medssl.errors import DataError
from medssl.evaluation.score_table import ScoreTable
from medssl.manifest.schema import manifest_of_rows
from medssl.sheet import Sheet, counts, said
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.workflows.result import Result
from medssl.workflows.run_result import RunResult
from medssl.workflows.score_files import Scored, found_in
from pointcloud.shapes import shape
from pointcloud.store_writing import CloudItem, store_from_clouds

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def scan(name, *, labels=True, channels=1):
    draw = np.random.default_rng(0)
    values = draw.integers(0, 300, (channels, 8, 10, 12) if channels > 1 else (8, 10, 12)).astype(np.int16)
    marked = np.zeros((8, 10, 12), np.int16)
    marked[2:5, 3:7, 4:9], marked[5:7, 3:7, 4:9] = 1, 2
    return Item(
        id=name,
        values=values,
        labels=marked if labels else None,
        patient=name,
        split="train",
        channels=tuple(f"c{n}" for n in range(channels)) if channels > 1 else (),
    )


def page_of(thing):
    page = thing._repr_html_()
    assert "<script" not in page
    assert "http" not in page
    assert "\x1b" not in page + repr(thing)
    return page


def test_names_of_files_are_harmless_everywhere(tmp_path):
    store = store_from_arrays(tmp_path / "store", [scan(HOSTILE)], classes={1: HOSTILE, 2: "two"})
    assert "&lt;script&gt;" in page_of(store)
    page_of(store.head())
    page_of(Result(written=(Path(HOSTILE),), next=Command("check", HOSTILE)))
    page_of(Sheet.of(HOSTILE, {HOSTILE: HOSTILE}, [HOSTILE], [[HOSTILE]]))
    figure = store.plot(HOSTILE)
    assert figure.get_suptitle() == "<script>alert(1)</script>"
    figure.savefig(tmp_path / "x.png")


def test_a_store_says_what_it_holds_and_its_first_scans(tmp_path):
    store = store_from_arrays(tmp_path / "store", [scan(f"s{n}", labels=n < 2) for n in range(9)], classes={1: "one"})
    lines = repr(store).splitlines()
    assert lines[0] == "Store: 9 scans of 9 patients"
    assert "  splits      train 9" in lines
    assert "  structures  one, structure 2" in lines
    assert "  labelled    2" in lines
    assert len(lines) < 14
    assert len(store.head(3).rows) == 3
    assert len(store.head(30).rows) == 9
    assert repr(store.subset([])).startswith("Store: 0 scans of 0")
    page_of(store.subset([]))
    with pytest.raises(DataError, match="there is no scan 9; the store has 9"):
        store.plot(9)
    with pytest.raises(DataError, match="no scan 'x'"):
        store.plot("x")


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("labels", [True, False])
def test_a_case_is_drawn_channel_by_channel_with_its_labels(channels, labels, tmp_path):
    item = scan("a", labels=labels, channels=channels)
    made = store_from_arrays(tmp_path / "store", [item], classes={1: "one", 2: "two"})
    figure = Store.open(made.folder).plot("a")
    assert len(figure.axes) == 3 * channels
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == (
        ["one", "two"] if labels else []
    )
    axial = figure.axes[0]
    # the plane with most of the structures, its patient's right on the left
    assert axial.get_title().removeprefix("c0: ") == ("axial, z 3 of 8" if labels else "axial, z 5 of 8")
    stored = made.values(0)[2 if labels else 4]
    shown = np.asarray(axial.images[0].get_array())
    entry = made.entries[0]
    np.testing.assert_allclose(shown, stored[::-1, ::-1] * entry.slope + entry.intercept)
    figure.savefig(tmp_path / "x.png")
    assert not [path for path in tmp_path.rglob("*.png") if path.name != "x.png"]


def test_a_cloud_is_drawn_with_its_parts(tmp_path):
    cloud = shape("brick", 0, seed=0, points=200)
    store = store_from_clouds(tmp_path / "clouds", [CloudItem(id="a_$x$", cloud=cloud, patient="p", split="train")])
    assert repr(store).startswith("CloudStore: 1 cloud of 1 object\n")
    figure = store.plot()
    assert figure.axes[0].get_title().startswith("a_$x$")
    assert np.asarray(figure.axes[0].images[0].get_array()).max() > 100
    figure.savefig(tmp_path / "x.png")


def test_an_empty_manifest():
    manifest = manifest_of_rows([])
    assert repr(manifest).startswith("Manifest: 0 scans")
    page_of(manifest)
    assert manifest.head().rows == ()


def test_a_manifest_shows_its_first_rows():
    manifest = manifest_of_rows([{"id": f"{HOSTILE}{n}", "path": f"/x/{n}.nii", "kind": "volume"} for n in range(9)])
    page_of(manifest)
    page_of(manifest.head())
    assert len(manifest.head(3).rows) == 3
    assert len(repr(manifest).splitlines()) == 7


def test_scores_and_comparisons_say_what_reports_say():
    rows = [
        (run, "", 0, 0, None, f"{n}", f"{n}", "", "dice", value + n * n / 100 * gain, "")
        for run, value, gain in (("voco", 0.8, 0.2), ("scratch", 0.6, 0.1))
        for n in range(8)
    ]
    found = found_in(ScoreTable.of_rows(rows), [("voco", "scratch")], metrics=["dice"], compared=["dice"], level=0.95)
    text = repr(found)
    assert text.startswith("Scored\n  voco against scratch  ")
    assert "0.835" in text
    assert "+0.217" in repr(found.comparisons[0])
    assert "Comparison: voco against scratch, Dice" in page_of(found.comparisons[0])
    page_of(found)
    assert repr(Scored()) == "Scored"


def test_a_run_without_steps_says_so(tmp_path):
    run = RunResult(tmp_path)
    assert repr(run) == f"RunResult\n  folder  {tmp_path}"
    for what in ("curves", "views"):
        with pytest.raises(DataError, match=str(tmp_path)):
            run.plot(what)


def test_a_result_names_its_parts_and_what_follows():
    @dataclass(frozen=True)
    class Found(Result):
        kept_scans: tuple[str, ...]

    shown = repr(Found(("a",) * 20, written=(Path("x"),) * 5, next=Command("check", "my file")))
    assert shown.splitlines() == [
        "Found",
        "  kept scans  20",
        "  written     x, x, x, and 2 more",
        "  next        medssl check 'my file'",
    ]


def test_words():
    assert counts([]) == ""
    assert said([]) == ""
    assert said(0) == "0"
    assert said({}) == ""
    assert repr(Sheet.of("t", {}, ("a",), [[n] for n in range(20)])).splitlines()[-1] == "  ... and 8 more"
