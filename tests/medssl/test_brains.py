"""Synthetic heads: four sequences on one grid, and a rim that one of them alone shows; as files and as a store."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medssl.phantoms import BRAIN_CLASSES, SEQUENCES, brain, write_brains
from tests.brain_store import store_of_brains

SMALL = (32, 36, 32)


@pytest.mark.parametrize("subject", range(4))
def test_one_sequence_alone_shows_the_rim(subject: int) -> None:
    made = brain(subject, shape=SMALL)
    assert set(np.unique(made.labels)) == set(BRAIN_CLASSES)
    for name, values in zip(SEQUENCES, made.values, strict=True):
        rim, oedema = (float(np.median(values[made.labels == number])) for number in (4, 2))
        if name == "t1ce":
            assert rim > 1.6 * oedema
        else:
            assert rim == pytest.approx(oedema, rel=0.15), name
    flair, head = made.values[3], made.values[3] > 0
    assert np.median(flair[made.labels == 2]) > 1.3 * np.median(flair[head & (made.labels == 0)])


def test_heads_are_the_same_again_and_differ() -> None:
    one, again, other = (brain(n, shape=SMALL) for n in (0, 0, 1))
    np.testing.assert_array_equal(one.values, again.values)
    assert (one.labels != other.labels).any()


def test_files_are_those_of_brats_and_the_store_holds_the_same(tmp_path: Path) -> None:
    folders = write_brains(tmp_path / "files", subjects=2, shape=SMALL)
    assert sorted(p.name for p in folders[1].iterdir()) == [
        f"case_001_{name}.nii.gz" for name in ("flair", "seg", "t1", "t1ce", "t2")
    ]
    store = store_of_brains(tmp_path / "store", subjects=2, shape=SMALL, splits=("train", "test"))
    assert store.channels == SEQUENCES
    assert [entry.split for entry in store.entries] == ["train", "test"]
    assert store.classes == BRAIN_CLASSES
    for index, folder in enumerate(folders):
        entry = store.entries[index]
        for number, channel in enumerate(entry.channels):
            image = nibabel.load(folder / f"{folder.name}_{channel.name}.nii.gz")
            np.testing.assert_allclose(image.affine, entry.affine)
            there = np.asarray(image.dataobj).transpose(2, 1, 0)
            here = store.values(index, number) * channel.slope + channel.intercept
            np.testing.assert_allclose(here, there, atol=0.51 * channel.slope + 1e-6)
        labels = np.asarray(nibabel.load(folder / f"{folder.name}_seg.nii.gz").dataobj).transpose(2, 1, 0)
        np.testing.assert_array_equal(store.labels(index), labels)
